"""Shared by tests: models, runs, checks of shapes."""
