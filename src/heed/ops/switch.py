"""The one switch of all fast computations, and the decorator that ties each to its reference version."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

_enabled = True


def enabled() -> bool:
    """Return True if fast versions are in use."""
    return _enabled


def set_fast(on: bool) -> None:
    """Use the fast versions (the default) or the reference versions, in this process from now on."""
    global _enabled
    _enabled = on


@contextmanager
def reference() -> Iterator[None]:
    """Use the reference versions inside the block."""
    before = _enabled
    set_fast(False)
    try:
        yield
    finally:
        set_fast(before)


def accelerated(by: Callable[..., Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a reference version, so that the fast version `by` runs in its place while the switch is on.

    torch.compile is always given the reference version: it fuses plain operators by itself.
    """

    def decorate(plain: Callable[P, R]) -> Callable[P, R]:
        @wraps(plain)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            use_fast = _enabled and not torch.compiler.is_compiling()
            return by(*args, **kwargs) if use_fast else plain(*args, **kwargs)

        return call

    return decorate
