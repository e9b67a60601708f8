"""Linear maps: x Wᵀ + b.

The reference version is torch's. On a CPU it multiplies by Intel's MKL, which is slow on other processors in float32:
half of oneDNN's speed on AMD's EPYC, 0.95 to 1.9 times oneDNN's on Intel's Xeon.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.library import custom_op
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from heed.device import cpu_name
from heed.ops import onednn, switch

ONEDNN_IS_FASTER = onednn.AVAILABLE and "Intel" not in cpu_name()


def linear(
    x: Float[Tensor, "*B I"], weight: Float[Tensor, "O I"], bias: Float[Tensor, " O"] | None = None
) -> Float[Tensor, "*B O"]:
    """Return x Wᵀ + b, as `torch.nn.functional.linear` does."""
    if _packs is not None and _can_be_packed(x, weight):
        return _by_packed(x, weight, bias)
    if _onednn_is_faster(x, weight) and not torch.is_autocast_enabled("cpu"):
        return _Linear.apply(x, weight, bias) if torch.is_grad_enabled() else _forward(x, weight, bias)
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """`torch.nn.Linear`, computed by `linear`."""

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        """Return x Wᵀ + b."""
        return linear(x, self.weight, self.bias)


def product(
    x: Float[Tensor, "P I"], weight: Float[Tensor, "O I"], bias: Float[Tensor, " O"] | None = None
) -> Float[Tensor, "P O"]:
    """Return x Wᵀ + b without a gradient, for hand-written gradients."""
    if _onednn_is_faster(x, weight):
        return (_for_compiler if torch.compiler.is_compiling() else _by_onednn)(x, weight, bias)
    return F.linear(x, weight, bias)


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return onednn.linear(_dense(x), _dense(weight), bias)


# The compiler calls a custom operator as it is. torch's own operator it would decompose, and fail.
_for_compiler = custom_op("heed::product", _by_onednn, mutates_args=())
_for_compiler.register_fake(lambda x, weight, bias: x.new_empty(x.size(0), weight.size(0)))


_packs: WeakTensorKeyDictionary | None = None  # parameter -> data type, packed weight


@contextmanager
def packed_weights() -> Iterator[None]:
    """Cache packed weights. Parameters must not change inside the block.

    Without a gradient and for few rows, a product takes up to half the time: otherwise oneDNN reorders the weight for
    each one. Blocks may be nested.
    """
    global _packs
    before = _packs
    _packs = WeakTensorKeyDictionary() if before is None else before
    try:
        yield
    finally:
        _packs = before


def _can_be_packed(x: Tensor, weight: Tensor) -> bool:
    dtype = _product_dtype(weight)
    return (
        switch.enabled()
        and onednn.CAN_PACK
        and not torch.is_grad_enabled()
        and x.is_cpu
        and isinstance(weight, nn.Parameter)
        and (dtype == torch.float32 or (dtype == torch.bfloat16 and onednn.HAS_BF16))
        and x.numel() > 0
    )


def _by_packed(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    assert _packs is not None
    dtype = _product_dtype(weight)
    packed_dtype, packed = _packs.get(weight, (None, None))
    if packed_dtype != dtype:
        packed = onednn.pack(weight.detach().to(dtype))
        _packs[weight] = dtype, packed
    rows = _dense(x.reshape(-1, x.size(-1)).to(dtype))
    bias = None if bias is None else bias.to(dtype)
    return onednn.linear(rows, packed, bias).view(*x.shape[:-1], len(weight))


def _product_dtype(weight: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype


def _onednn_is_faster(x: Tensor, weight: Tensor) -> bool:
    return (
        switch.enabled()
        and ONEDNN_IS_FASTER
        and x.is_cpu
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
    )


def _dense(matrix: Tensor) -> Tensor:
    """Return the matrix without gaps between rows or columns: oneDNN multiplies others by its slow reference loop."""
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
