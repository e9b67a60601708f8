"""Configuration: its typed schema, and the only place where it becomes objects."""
