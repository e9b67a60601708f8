"""The loss: cross-entropy with label smoothing, over the real target positions."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from heed import fast
from heed.linear import product

CHUNK = 256  # rows of logits alive at a time: 256 × 8,000 floats are 8 MB, which the cores' caches hold


def cross_entropy(
    readouts: Float[Tensor, "P R"],
    targets: Int[Tensor, " P"],
    output: nn.Linear,
    smoothing: float,
    consistency: float = 0.0,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The summed loss, and the summed negative log-likelihood without smoothing (for perplexity; it has no gradient).

    loss = Σ (1 - ε) · -log p(target) + ε · mean_v -log p(v) (Szegedy et al. 2016, arXiv 1512.00567, §7), p the softmax
    of the output layer. The logits of all positions, P × V, never exist at once: the gradient is made chunk by chunk
    in the forward pass. Under autocast the products run in its type, everything else in the parameters' own.

    With a `consistency` α, rows 2i and 2i + 1 are one position under two draws of dropout, which say p and q, and the
    loss has α/2 · (KL(p‖q) + KL(q‖p)) more for each (R-Drop: Liang et al. 2021, arXiv 2106.14448, §2.1).
    """
    if not fast.enabled:
        logits = output(readouts).to(output.weight.dtype)
        nll = nn.functional.cross_entropy(logits, targets, reduction="sum")
        loss = nn.functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
        if consistency:
            one, other = logits.log_softmax(-1).unflatten(0, (-1, 2)).unbind(1)
            loss = loss + consistency / 2 * ((one.exp() - other.exp()) * (one - other)).sum()
        return loss, nll.detach()
    device = readouts.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else output.weight.dtype
    learning = torch.is_grad_enabled()  # which forward below cannot see
    return _CrossEntropy.apply(
        readouts, output.weight, output.bias, targets, smoothing, consistency, dtype, learning
    )


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
                # log Σ exp by what the softmax made: the greatest probability is exp(greatest logit) / Σ exp.
                log_sum = logits.amax(-1) - probs.amax(-1).log()
                log_sums += log_sum.sum()
                nll += log_sum.sum() - logits.gather(-1, target).sum()
                if consistency:
                    divergence += _divergence_(logits, log_sum, probs, consistency / 2)
                if not learning:
                    continue
                # The gradient of the logits: p - the smoothed target, whose even share is subtracted below.
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
    """KL(p‖q) + KL(q‖p), summed over the pairs of rows; adds `weight` times its gradient in the logits to `probs`."""
    (p, q), (one, other) = (rows.unflatten(0, (-1, 2)).unbind(1) for rows in (probs, logits))
    ratio = (one - other).add_(log_sums.unflatten(0, (-1, 2)).diff())  # log p - log q
    kl_pq, kl_qp = ((x * ratio).sum(-1, keepdim=True) for x in (p, -q))
    grad_p = (ratio + (1 - kl_pq)).mul_(p).sub_(q)
    grad_q = (1 - kl_qp - ratio).mul_(q).sub_(p)
    p.add_(grad_p, alpha=weight)
    q.add_(grad_q, alpha=weight)
    return (kl_pq + kl_qp).sum()
