"""The HTML page of an evaluation or a comparison."""
