"""The arithmetic that models compute in: float32, or bfloat16 products around float32 states, softmax and weights."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch

from heed.device import has_fast_bf16
from heed.ops.loop import compiling


def precision(name: str, device: torch.device, compiled: bool = False) -> Callable[[], AbstractContextManager[None]]:
    """Return a function that makes the context in which a model computes.

    Args:
        name: "fp32", "bf16", or "auto": "bf16" if `has_fast_bf16`, else "fp32".
        device: of the model.
        compiled: compile the decoder's loop.
    """
    return partial(_computing, device.type, resolve(name, device) == "bf16", compiled)


def resolve(name: str, device: torch.device) -> str:
    """Return what "auto" means on the device: "bf16" or "fp32". Other names stay."""
    return ("bf16" if has_fast_bf16(device) else "fp32") if name == "auto" else name


@contextmanager
def _computing(device_type: str, bf16: bool, compiled: bool) -> Iterator[None]:
    with torch.autocast(device_type, dtype=torch.bfloat16, enabled=bf16), compiling(compiled):
        yield
