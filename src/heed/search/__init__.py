"""From encoder states to hypotheses to text."""
