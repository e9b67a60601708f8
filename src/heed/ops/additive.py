"""The fast version of `heed.score.bahdanau.additive_energy`: the sums of all queries and keys never exist at once.

With x = query + key, tanh x = 2σ(2x) - 1, so v · tanh x = 2 v · σ(2 query + 2 key) - Σ v. The vectorised sigmoid is
several times faster than tanh. The gradient computes the sigmoids again instead of storing them.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

PIECE = 1 << 20  # numbers at a time: 4 MB stay in the cache


def additive_energy(
    query: Float[Tensor, "B N A"], keys: Float[Tensor, "B S A"], v: Float[Tensor, " A"]
) -> Float[Tensor, "B N S"]:
    """Return v · tanh(query + key) for every query and key, in the data type of `v`."""
    with torch.autocast(query.device.type, enabled=False):
        operands = query.to(v.dtype), keys.to(v.dtype), v
        return _AdditiveEnergy.apply(*operands) if torch.is_grad_enabled() else _energy(*operands)


def _pieces(B: int, N: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Yield slices of sentences and queries with at most PIECE sums together; a single query has `size` of them."""
    sentences = max(1, PIECE // size)
    queries = max(1, PIECE // (size * min(B, sentences)))
    for b in range(0, B, sentences):
        for n in range(0, N, queries):
            yield slice(b, b + sentences), slice(n, n + queries)


class _AdditiveEnergy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(query, keys, v)
        return _energy(query, keys, v)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, keys, v = ctx.saved_tensors
        grad = grads[0]
        grad_query, grad_keys, grad_v = torch.empty_like(query), torch.zeros_like(keys), torch.zeros_like(v)
        for b, n in _pieces(len(query), query.size(1), keys[0].numel()):
            sigmoid = _sigmoid(query[b, n], keys[b])
            of_sigmoid = grad[b, n, :, None].expand_as(sigmoid)
            grad_v += grad[b, n].flatten() @ sigmoid.flatten(0, 2)
            slope = torch.ops.aten.sigmoid_backward(of_sigmoid, sigmoid)  # of_sigmoid · σ (1 - σ)
            grad_query[b, n] = slope.sum(2)
            grad_keys[b].addcmul_(slope[:, 0] if slope.size(1) == 1 else slope.sum(1), 4 * v)
        return grad_query.mul_(4 * v), grad_keys, 2 * grad_v - grad.sum()


def _energy(query: Tensor, keys: Tensor, v: Tensor) -> Tensor:
    energy = v.new_empty(*query.shape[:2], keys.size(1))
    for b, n in _pieces(len(query), query.size(1), keys[0].numel()):
        energy[b, n] = _sigmoid(query[b, n], keys[b]) @ v
    return energy.mul_(2).sub_(v.sum())


def _sigmoid(query: Tensor, keys: Tensor) -> Tensor:
    """Return σ(2 query + 2 key), "b n S A"."""
    return torch.add(2 * query[:, :, None], keys[:, None], alpha=2).sigmoid_()
