"""Benchmarks of heed against a textbook loop, on the present machine: `make bench`."""

from heed.cli.process import set_up_threads

set_up_threads()  # before the package's modules import torch
