"""Fast computations: each file holds one, with its reference version."""
