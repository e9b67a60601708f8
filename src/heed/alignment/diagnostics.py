"""Numbers that describe an alignment."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def normalized_entropy(
    alignment: Float[Tensor, "*B T S"],
    src_mask: Bool[Tensor, "*B S"] | None = None,
    tgt_mask: Bool[Tensor, "*B T"] | None = None,
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """Return the sum of normalised entropies over target positions, and the number of these positions.

    The normalised entropy of a target position is `-Σ_s a_s ln a_s / ln S`, with S real source positions. It is 0 if
    all weight is on one source position, and 1 if all weights are equal. If S is 1, it is 0. Padding, and positions
    without weights (see `has_weights`), do not count. Masks are True on real tokens. Without a mask, every position is
    real.
    """
    weights = alignment.detach()
    weights = weights if weights.dtype == torch.float64 else weights.float()
    if src_mask is None:
        src_mask = weights.new_ones(weights.shape[:-2] + weights.shape[-1:], dtype=torch.bool)
    if tgt_mask is None:
        tgt_mask = weights.new_ones(weights.shape[:-1], dtype=torch.bool)
    tgt_mask = tgt_mask & has_weights(weights)
    entropy = torch.special.entr(weights).masked_fill(~src_mask.unsqueeze(-2), 0).sum(-1)  # *B T
    most = src_mask.sum(-1, keepdim=True).clamp(min=1).to(weights.dtype).log()  # *B 1
    normalized = torch.where(most > 0, entropy / most, 0).masked_fill(~tgt_mask, 0)
    return normalized.sum(), tgt_mask.sum()


def corpus_entropy(alignments: Sequence[Float[np.ndarray, "_T _S"]]) -> float | None:
    """Return the mean normalised entropy over a corpus's target positions with weights, or None if there are none."""
    found = [normalized_entropy(torch.as_tensor(alignment)) for alignment in alignments]
    number = sum(int(positions) for _, positions in found)
    return sum(float(total) for total, _ in found) / number if number else None


def has_weights(alignment: Float[Tensor, "*B T S"]) -> Bool[Tensor, "*B T"]:
    """Return a mask of the target positions with any weight: none of padding, and none with `score=none`."""
    return (alignment > 0).any(-1)


def diagnostics(
    alignment: Float[Tensor, "B T S"], src_mask: Bool[Tensor, "B S"], tgt_mask: Bool[Tensor, "B T"]
) -> dict[str, tuple[Float[Tensor, ""], Int[Tensor, ""]]]:
    """Return the diagnostics of a batch of alignments by name. Each is a sum, and the number of its terms.

    - `max_weight`: The largest weight of each target position.
    - `eos_mass`: The weight on the end symbol of the source, at each target position except the last.
    - `monotonicity`: Whether the largest weight does not move to the left from the position before: 1 or 0.
      Of equal weights the first counts. Positions without weights do not count.
    - `coverage`: min(1, Σ_t a_ts) of each source position. The sum is in Wu et al. (2016), arXiv 1609.08144, eq. 14.
    - `energy_spread`: The standard deviation of the energies of a target position, computed from its weights by
      ln a_ts. There must be two real source positions. If a score is multiplied by β, the spread is too. In float32,
      an energy more than 87 below the largest counts as 87 below. A spread of more than about 17 is therefore too
      small, and none is far above 25.

    Masks are True on real tokens.
    """
    weights = alignment.detach()
    weights = weights if weights.dtype == torch.float64 else weights.float()
    weights = weights.masked_fill(~(tgt_mask[..., None] & src_mask[:, None]), 0)
    lengths, tgt_lengths = src_mask.sum(-1), tgt_mask.sum(-1)  # B
    last = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, weights.size(1), 1)
    before_end = torch.arange(weights.size(1), device=weights.device) < tgt_lengths[:, None] - 1  # B T
    best = weights.argmax(-1)
    attending = tgt_mask & has_weights(weights)
    both = attending[:, 1:] & attending[:, :-1]  # this position and the one before
    onwards = (best[:, 1:] >= best[:, :-1]) & both
    energies = weights.clamp(min=torch.finfo(weights.dtype).tiny).log().masked_fill(~src_mask[:, None], 0)
    num = lengths[:, None].clamp(min=1)
    mean = energies.sum(-1) / num  # B T
    variance = ((energies - mean[..., None]).square() * src_mask[:, None]).sum(-1) / num
    has_choice = tgt_mask & (lengths > 1)[:, None]
    return {
        "max_weight": (weights.amax(-1).sum(), tgt_mask.sum()),
        "eos_mass": ((weights.gather(-1, last).squeeze(-1) * before_end).sum(), before_end.sum()),
        "monotonicity": (onwards.sum(), both.sum()),
        "coverage": (weights.sum(1).clamp(max=1).sum(), src_mask.sum()),
        "energy_spread": ((variance.sqrt() * has_choice).sum(), has_choice.sum()),
    }
