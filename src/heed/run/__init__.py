"""Run directories: layout, identity, checkpoints, loading, and checks of untrusted ones."""
