"""The fast version of a GRU over whole sequences on a CPU, all directions at once, with a hand-written gradient.

torch's own GRU runs one direction at a time and leaves its gradient to autograd: some forty small operations for each
position. Here one operation computes both directions. The factors of the gradient that need no recurrence are
computed for all positions together. torch's LSTM is one operation of oneDNN, which needs no such help.

A further axis: `D` directions (1 or 2), which share nothing but their shape.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from heed.ops.linear import product


def gru(
    gates: Float[Tensor, "D T B G"],
    U: Float[Tensor, "D G H"],
    b: Float[Tensor, "D G"],
    hidden: Float[Tensor, "D B H"],
) -> Float[Tensor, "D T B H"]:
    """Return all outputs of a layer, as `heed.ops.rnn.recur` with `gru_cell` does.

    Products run in the data type of `gates`, which the outputs have too. Gates and state are kept in the data type of
    `U`.
    """
    with torch.autocast(gates.device.type, enabled=False):
        return _GRU.apply(gates, U, b, hidden)


class _GRU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, W: Tensor, b: Tensor, hidden: Tensor) -> Tensor:
        D, T, B, G = gates.shape
        H = G // 3
        weight, inputs = W.to(gates.dtype), gates.to(W.dtype)
        reset_update, new, candidate = (W.new_empty(D, T, B, dim) for dim in (2 * H, H, H))
        hiddens = W.new_empty(D, T + 1, B, H)
        hiddens[:, 0] = hidden
        cast = hiddens.to(gates.dtype)  # the same tensor, if that is its type
        for t in range(T):
            recurrent = _products(cast[:, t], weight).to(W.dtype).add_(b[:, None])  # D B G
            torch.add(inputs[:, t, :, : 2 * H], recurrent[..., : 2 * H], out=reset_update[:, t]).sigmoid_()
            reset, update = reset_update[:, t].chunk(2, -1)
            candidate[:, t] = recurrent[..., 2 * H :]
            torch.addcmul(inputs[:, t, :, 2 * H :], reset, candidate[:, t], out=new[:, t])
            # tanh x = 2σ(2x) - 1: the sigmoid is faster than tanh
            new[:, t].mul_(2).sigmoid_().mul_(2).sub_(1)
            torch.lerp(new[:, t], hiddens[:, t], update, out=hiddens[:, t + 1])
            if cast is not hiddens:
                cast[:, t + 1] = hiddens[:, t + 1]
        ctx.save_for_backward(weight, reset_update, new, candidate, hiddens, cast)
        return cast[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        weight, reset_update, new, candidate, hiddens, cast = ctx.saved_tensors
        D, T, B, H = new.shape
        grad = grads[0].to(new.dtype)
        reset, update = reset_update.chunk(2, -1)
        # The gradient of h' times these is the gradient of n's gate, and of the shares of U h in r, z and n.
        to_new = (1 - update) * (1 - new * new)
        factors = new.new_empty(D, T, B, 3, H)
        torch.mul(to_new, reset, out=factors[..., 2, :])
        torch.mul(factors[..., 2, :] * candidate, 1 - reset, out=factors[..., 0, :])
        torch.mul((hiddens[:, :-1] - new) * update, 1 - update, out=factors[..., 1, :])
        grad_new, grad_recurrent = cast.new_empty(D, T, B, H), cast.new_empty(D, T, B, 3 * H)
        grad_hidden = torch.zeros_like(hiddens[:, 0])
        backwards = weight.mT
        for t in reversed(range(T)):
            grad_hidden += grad[:, t]
            grad_new[:, t] = grad_hidden * to_new[:, t]
            grad_recurrent[:, t] = (grad_hidden[:, :, None] * factors[:, t]).flatten(2)
            grad_hidden.mul_(update[:, t]).add_(_products(grad_recurrent[:, t], backwards))
        flat = grad_recurrent.flatten(1, 2)  # D (T B) 3H
        grad_W = _products(flat.mT, cast[:, :-1].flatten(1, 2).mT)
        grad_gates = torch.cat([grad_recurrent[..., : 2 * H], grad_new], -1)
        return grad_gates, grad_W.to(new.dtype), flat.sum(1, dtype=new.dtype), grad_hidden


def _products(x: Float[Tensor, "D P I"], weight: Float[Tensor, "D O I"]) -> Float[Tensor, "D P O"]:
    """Return x Wᵀ in each direction."""
    if x.dtype == torch.float32:
        return torch.stack([product(*pair) for pair in zip(x, weight, strict=True)])
    return torch.bmm(x, weight.mT)
