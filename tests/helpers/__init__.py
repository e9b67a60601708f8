"""What tests share: models, runs, checks of shapes."""
