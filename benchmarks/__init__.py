"""Measures heed against a textbook loop on the machine at hand: `make bench`."""
