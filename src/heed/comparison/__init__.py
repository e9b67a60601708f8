"""Compare several runs: summary, significance tests, report."""
