"""Search: from encoder states to hypotheses to text."""
