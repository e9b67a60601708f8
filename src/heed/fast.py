"""The switches of the fast paths: passages that compute what a plainer one beside them does, in less time or memory.

Tests hold each equal to its plain twin. `fast=false` on the command line takes the plain ones, to debug or to doubt.
"""

import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

enabled = True
_compiling = False


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Within it, the fast paths are on or off."""
    global enabled
    before, enabled = enabled, on
    try:
        yield
    finally:
        enabled = before


@contextmanager
def compiling(on: bool) -> Iterator[None]:
    """Within it, what is marked as `compiled` is compiled, or not."""
    global _compiling
    before, _compiling = _compiling, on
    try:
        yield
    finally:
        _compiling = before


def compiles_loops() -> bool:
    """Whether what is marked as `compiled` is, here."""
    return enabled and _compiling


def missing_for_compiling() -> str | None:
    """What torch.compile would need on this machine and does not find; None where nothing is missing."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"a C++ compiler ({compiler})"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return None if header.exists() else f"Python's headers ({header})"


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Marks the body of a loop: where `compiling` is on, torch.compile makes a few kernels of it, for all shapes."""

    @cache
    def kernels() -> Any:
        import torch._dynamo  # late: this module is loaded where nothing is computed, too

        # nn.GRU and nn.LSTM only hold weights in such a body, they are never called there.
        torch._dynamo.config.allow_rnn = True
        # More models, types and sizes of one than a process will see: past the limit nothing would be compiled.
        torch._dynamo.config.recompile_limit = 64
        return torch.compile(function, dynamic=True)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return kernels()(*args, **kwargs) if compiles_loops() else function(*args, **kwargs)

    return call
