"""The switch of the fast paths: passages that compute what a plainer one beside them computes, in less time or memory.

Tests hold each equal to its plain twin. `fast=false` on the command line takes the plain ones, to debug or to doubt.
"""

from collections.abc import Iterator
from contextlib import contextmanager

enabled = True


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Within it, the fast paths are on or off."""
    global enabled
    before, enabled = enabled, on
    try:
        yield
    finally:
        enabled = before
