"""Training: loss, optimisation, checkpoints, monitoring, the loop."""
