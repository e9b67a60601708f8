"""The loop over a decoder's positions, plain or compiled."""

import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from heed.ops import switch
from heed.ops.linear import Linear

Tensors = tuple[Tensor, ...]

_compiling = False


def loop(decoder: Any, x: Tensors, state: Tensors, memory: Any) -> Tensors:
    """Run `decoder.advance` over all positions of `x`, and return what it saw at all of them.

    Args:
        decoder: a module with a method `advance(x_t, state, memory) -> (state, seen_t)`.
        x: tensors "B T …". At position t, `advance` is given each as "B 1 …".
        state: the state before the first position.
        memory: handed to `advance` as it is.

    Returns:
        The tensors of `seen_t`, "B 1 …" each, joined to "B T …".
    """
    if not (switch.enabled() and _compiling):
        return _loop(decoder.advance, x, state, memory)
    weights = {f"decoder.{name}": weight for name, weight in cast_weights(decoder).items()}
    with torch._dynamo.config.patch(allow_rnn=True, recompile_limit=64):
        return functional_call(_CompiledLoop(decoder), weights, (x, state, memory))


def _loop(advance: Callable[..., tuple[Tensors, Tensors]], x: Tensors, state: Tensors, memory: Any) -> Tensors:
    seen = []
    for x_t in zip(*(tensor.unsqueeze(2).unbind(1) for tensor in x), strict=True):
        state, seen_t = advance(x_t, state, memory)
        seen.append(seen_t)
    return tuple(torch.cat(parts, 1) for parts in zip(*seen, strict=True))


class _CompiledLoop(nn.Module):
    """The loop as a module, so that `functional_call` can exchange the decoder's weights."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, x: Tensors, state: Tensors, memory: Any) -> Tensors:
        def advance(*arguments: Any) -> tuple[Tensors, Tensors]:
            return step(self.decoder, *arguments)

        step = _compiled(type(self.decoder).advance)  # type: ignore[attr-defined]
        return _loop(advance, x, state, memory)


@cache
def _compiled(function: Callable[..., Any]) -> Any:
    """Compile a function into a few kernels for all shapes."""
    return torch.compile(function, dynamic=True)


def cast_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return the matrices of heed's layers in autocast's data type: compiled code would cast them at every step.

    The weights of a user's own score are left out: the score may compute in float32 on purpose.
    """
    device = next(module.parameters()).device.type
    if not torch.is_autocast_enabled(device):
        return {}
    dtype = torch.get_autocast_dtype(device)
    return {
        f"{path}.{name}": weight.to(dtype)
        for path, layer in module.named_modules()
        if isinstance(layer, Linear | nn.RNNBase)
        for name, weight in layer.named_parameters(recurse=False)
        if weight.dim() == 2
    }


@contextmanager
def compiling(on: bool) -> Iterator[None]:
    """Compile the loops inside the block, or do not."""
    global _compiling
    before, _compiling = _compiling, on
    try:
        yield
    finally:
        _compiling = before


def missing_for_compiling() -> str | None:
    """Return the tool that torch.compile needs and this machine lacks, or None."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"a C++ compiler ({compiler})"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return None if header.exists() else f"Python's headers ({header})"
