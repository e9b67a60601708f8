"""The loss: cross-entropy with label smoothing, and R-Drop, over the real target positions."""

from math import exp
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from heed.ops.linear import product
from heed.ops.switch import accelerated

MAX_EXPONENT = 700.0  # exp of more overflows
CHUNK = 256  # rows of logits at a time: 256 × 8,000 floats are 8 MB, which fit the cores' caches


def _in_chunks(
    readouts: Tensor, targets: Tensor, output: nn.Linear, smoothing: float, consistency: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Never hold the logits of all positions, P × V, at once: the forward pass makes the gradient chunk by chunk.

    Under autocast the products run in its data type, everything else in the parameters' own.
    """
    device = readouts.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else output.weight.dtype
    learning = torch.is_grad_enabled()  # inside `forward` it is always off
    return _CrossEntropy.apply(readouts, output.weight, output.bias, targets, smoothing, consistency, dtype, learning)


@accelerated(by=_in_chunks)
def cross_entropy(
    readouts: Float[Tensor, "P R"],
    targets: Int[Tensor, " P"],
    output: nn.Linear,
    smoothing: float,
    consistency: float = 0.0,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the summed loss, and the summed negative log-likelihood without smoothing, which has no gradient.

    loss = Σ (1 - ε) · -log p(target) + ε · mean_v -log p(v) (Szegedy et al. 2016, arXiv 1512.00567, §7). p is the
    softmax of the output layer.

    With a `consistency` α, rows 2i and 2i + 1 are one position under two draws of dropout, with distributions p and q.
    The loss then has α/2 · (KL(p‖q) + KL(q‖p)) more for each pair (R-Drop: Liang et al. 2021, arXiv 2106.14448, §2.1).
    """
    logits = output(readouts).to(output.weight.dtype)
    nll = F.cross_entropy(logits, targets, reduction="sum")
    loss = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    if consistency:
        log_p, log_q = logits.log_softmax(-1).unflatten(0, (-1, 2)).unbind(1)
        loss = loss + consistency / 2 * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum()
    return loss, nll.detach()


def perplexity(nll: float) -> float:
    """Return exp of the mean negative log-likelihood of a token, bounded so that it is finite."""
    return exp(min(nll, MAX_EXPONENT))


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        readouts: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        smoothing: float,
        consistency: float,
        dtype: torch.dtype,
        learning: bool,
    ) -> tuple[Tensor, Tensor]:
        x, W, b = readouts.to(dtype), weight.to(dtype), bias.to(dtype)
        grad_x, grad_W, grad_b = torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
        nll, log_sums, divergence = (bias.new_zeros(()) for _ in range(3))
        with torch.autocast(readouts.device.type, enabled=False):
            for start in range(0, len(x), CHUNK):
                rows = slice(start, start + CHUNK)
                target = targets[rows, None]
                logits = product(x[rows], W, b).to(bias.dtype)
                probs = logits.softmax(-1)
                # log Σ exp from the softmax: the greatest probability is exp(greatest logit) / Σ exp.
                log_sum = logits.amax(-1) - probs.amax(-1).log()
                log_sums += log_sum.sum()
                nll += log_sum.sum() - logits.gather(-1, target).sum()
                if consistency:
                    divergence += _divergence_(logits, log_sum, probs, consistency / 2)
                if not learning:
                    continue
                # The gradient of the logits is p minus the smoothed target. Its even share is subtracted below.
                probs.scatter_add_(-1, target, torch.full_like(target, smoothing - 1, dtype=probs.dtype))
                grad_b += probs.sum(0)
                grad = probs.to(dtype)
                grad_x[rows] = product(grad, W.T)
                grad_W += product(grad.T, x[rows].T)
        sum_x, sum_W, sum_b = (some.sum(0, dtype=bias.dtype) for some in (x, W, b))
        uniform = log_sums - (sum_x @ sum_W + len(x) * sum_b) / len(bias)  # Σ mean_v -log p(v)
        if learning:
            even = smoothing / len(bias)
            grad_x -= even * sum_W
            grad_W -= even * sum_x
            grad_b -= even * len(x)
            ctx.save_for_backward(grad_x.to(readouts.dtype), grad_W, grad_b)
        ctx.mark_non_differentiable(nll)
        return (1 - smoothing) * nll + smoothing * uniform + consistency / 2 * divergence, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_W, grad_b = ctx.saved_tensors
        factor = grad_outputs[0]
        return grad_x * factor, grad_W * factor, grad_b * factor, None, None, None, None, None


def _divergence_(
    logits: Float[Tensor, "C V"], log_sums: Float[Tensor, " C"], probs: Float[Tensor, "C V"], weight: float
) -> Float[Tensor, ""]:
    """Return KL(p‖q) + KL(q‖p), summed over the pairs of rows.

    Adds `weight` times its gradient with respect to the logits to `probs`.
    """
    (p, q), (one, other) = (rows.unflatten(0, (-1, 2)).unbind(1) for rows in (probs, logits))
    ratio = (one - other).add_(log_sums.unflatten(0, (-1, 2)).diff())  # log p - log q
    kl_pq, kl_qp = ((x * ratio).sum(-1, keepdim=True) for x in (p, -q))
    grad_p = (ratio + (1 - kl_pq)).mul_(p).sub_(q)
    grad_q = (1 - kl_qp - ratio).mul_(q).sub_(p)
    p.add_(grad_p, alpha=weight)
    q.add_(grad_q, alpha=weight)
    return (kl_pq + kl_qp).sum()
