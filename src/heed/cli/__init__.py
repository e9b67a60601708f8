"""The commands, one file each, and what they share: Hydra, multiruns, the terminal."""
