"""Linear maps. In float32 on a CPU by oneDNN, but for Intel's: MKL, which torch takes, is slow on those of others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from heed import fast
from heed.device import HAS_BF16, HAS_ONEDNN, cpu_name

# Products in float32 by MKL have half of oneDNN's speed on AMD (EPYC), and 0.95 to 1.9 of it on Intel (Xeon).
ONEDNN_IS_FASTER = HAS_ONEDNN and "Intel" not in cpu_name()


def linear(
    x: Float[Tensor, "*B I"], weight: Float[Tensor, "O I"], bias: Float[Tensor, " O"] | None = None
) -> Float[Tensor, "*B O"]:
    """x Wᵀ + b, as `torch.nn.functional.linear`."""
    if _packs is not None and _can_be_packed(x, weight):
        return _by_packed(x, weight, bias)
    if _is_onednns(x, weight) and not torch.is_autocast_enabled("cpu"):
        return _Linear.apply(x, weight, bias) if torch.is_grad_enabled() else _forward(x, weight, bias)
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """`torch.nn.Linear` by `linear`."""

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        """x Wᵀ + b."""
        return linear(x, self.weight, self.bias)


def product(
    x: Float[Tensor, "P I"], weight: Float[Tensor, "O I"], bias: Float[Tensor, " O"] | None = None
) -> Float[Tensor, "P O"]:
    """x Wᵀ + b without a gradient, for gradients that are written out."""
    if _is_onednns(x, weight):
        return (_compiled if torch.compiler.is_compiling() else _by_onednn)(x, weight, bias)
    return F.linear(x, weight, bias)


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(_dense(x), _dense(weight), bias, "none", [], "")


# As an operator of our own the compiler calls it as it is; torch's it would take apart, and fail.
_compiled = torch.library.custom_op("heed::product", _by_onednn, mutates_args=())
_compiled.register_fake(lambda x, weight, bias: x.new_empty(x.size(0), weight.size(0)))


_packs: WeakTensorKeyDictionary | None = None  # parameter: a type, and the weight packed in it


@contextmanager
def unchanging_weights() -> Iterator[None]:
    """Within it no parameter may change: of each, what oneDNN multiplies by is made once.

    For few rows a product without a gradient takes up to half the time then: else oneDNN brings the weight into its own
    order anew each time.
    """
    global _packs
    before, _packs = _packs, WeakTensorKeyDictionary()
    try:
        yield
    finally:
        _packs = before


def _can_be_packed(x: Tensor, weight: Tensor) -> bool:
    return (
        fast.enabled
        and HAS_ONEDNN
        and not torch.is_grad_enabled()
        and x.is_cpu
        and isinstance(weight, nn.Parameter)
        and (
            _product_dtype(weight) == torch.float32 or (_product_dtype(weight) == torch.bfloat16 and HAS_BF16)
        )
        and x.numel() > 0
    )


def _by_packed(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    assert _packs is not None
    dtype = _product_dtype(weight)
    packed_dtype, packed = _packs.get(weight, (None, None))
    if packed_dtype != dtype:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype), None)
        _packs[weight] = dtype, packed
    rows = _dense(x.reshape(-1, x.size(-1)).to(dtype))
    bias = None if bias is None else bias.to(dtype)
    return torch.ops.mkldnn._linear_pointwise(rows, packed, bias, "none", [], "").view(
        *x.shape[:-1], len(weight)
    )


def _product_dtype(weight: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype


def _is_onednns(x: Tensor, weight: Tensor) -> bool:
    return (
        fast.enabled
        and ONEDNN_IS_FASTER
        and x.is_cpu
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
    )


def _dense(matrix: Tensor) -> Tensor:
    """A matrix without gaps between its rows or columns: for others oneDNN has only its reference loop."""
    return matrix if matrix.is_contiguous() or matrix.T.is_contiguous() else matrix.contiguous()


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return product(x.reshape(-1, x.size(-1)), weight, bias).view(*x.shape[:-1], len(weight))


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _forward(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grads[0].reshape(-1, grads[0].size(-1))
        need_x, need_weight, need_bias = ctx.needs_input_grad
        return (
            product(grad, weight.T).view(x.shape) if need_x else None,
            product(grad.T, x.reshape(-1, x.size(-1)).T) if need_weight else None,
            grad.sum(0) if need_bias else None,
        )
