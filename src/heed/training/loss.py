"""The loss: cross-entropy with label smoothing, over the real target positions."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CHUNK = 256  # rows of logits alive at a time: 256 × 8,000 floats are 8 MB, which stays in cache


def cross_entropy(
    readouts: Float[Tensor, "P R"], targets: Int[Tensor, " P"], output: nn.Linear, smoothing: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The summed loss, and the summed negative log-likelihood without smoothing (for perplexity; it has no gradient).

    loss = Σ (1 - ε) · -log p(target) + ε · mean_v -log p(v) (Szegedy et al. 2016, arXiv 1512.00567, §7), p the softmax
    of the output layer. The logits of all positions, P × V, never exist at once: the gradient is made chunk by chunk
    in the forward pass. Under autocast the products run in its type, everything else in the parameters' own.
    """
    device = readouts.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else output.weight.dtype
    learning = torch.is_grad_enabled()  # which forward below cannot see
    return _CrossEntropy.apply(readouts, output.weight, output.bias, targets, smoothing, dtype, learning)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        readouts: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        smoothing: float,
        dtype: torch.dtype,
        learning: bool,
    ) -> tuple[Tensor, Tensor]:
        x, W, b = readouts.to(dtype), weight.to(dtype), bias.to(dtype)
        grad_x, grad_W, grad_b = torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
        nll, uniform = bias.new_zeros(()), bias.new_zeros(())
        with torch.autocast(readouts.device.type, enabled=False):
            for start in range(0, len(x), CHUNK):
                rows = slice(start, start + CHUNK)
                target = targets[rows, None]
                log_probs = torch.addmm(b, x[rows], W.T).log_softmax(-1, bias.dtype)
                nll -= log_probs.gather(-1, target).sum()
                if smoothing:
                    uniform -= log_probs.mean(-1).sum()
                if not learning:
                    continue
                grad = (
                    log_probs.exp_()
                )  # of the logits: p - the smoothed target, whose even share is subtracted below
                grad.scatter_add_(-1, target, torch.full_like(target, smoothing - 1, dtype=grad.dtype))
                grad_b += grad.sum(0)
                grad = grad.to(dtype)
                torch.mm(grad, W, out=grad_x[rows])
                grad_W += grad.T @ x[rows]
        if learning:
            even = smoothing / len(bias)
            grad_x -= even * W.sum(0)
            grad_W -= even * x.sum(0)
            grad_b -= even * len(x)
            ctx.save_for_backward(grad_x.to(readouts.dtype), grad_W, grad_b)
        ctx.mark_non_differentiable(nll)
        return (1 - smoothing) * nll + smoothing * uniform, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_W, grad_b = ctx.saved_tensors
        factor = grad_outputs[0]
        return grad_x * factor, grad_W * factor, grad_b * factor, None, None, None, None
