"""Shapes are checked where a test says so: the checks take a third of the time of training."""

from collections.abc import Iterator

import pytest
from helpers.runs import shapes_checked


@pytest.fixture(autouse=True)
def shapes_unchecked() -> Iterator[None]:
    with shapes_checked(False):
        yield
