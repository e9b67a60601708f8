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
    """How spread the attention is: 0 where each target position looks at one source position, 1 at all alike.

    It is the sum of `-Σ_s a_s ln a_s / ln S` over the real target positions that look anywhere (see `looks`), and the
    number of these, with S the number of real source positions of the sentence; one of a sentence of one source
    position, which has no choice, is 0. Masks are True on real tokens; without a mask every position is real.
    """
    weights = alignment.detach()
    weights = weights if weights.dtype == torch.float64 else weights.float()
    if src_mask is None:
        src_mask = weights.new_ones(weights.shape[:-2] + weights.shape[-1:], dtype=torch.bool)
    if tgt_mask is None:
        tgt_mask = weights.new_ones(weights.shape[:-1], dtype=torch.bool)
    tgt_mask = tgt_mask & looks(weights)
    entropy = torch.special.entr(weights).masked_fill(~src_mask.unsqueeze(-2), 0).sum(-1)  # *B T
    most = src_mask.sum(-1, keepdim=True).clamp(min=1).to(weights.dtype).log()  # *B 1
    normalized = torch.where(most > 0, entropy / most, 0).masked_fill(~tgt_mask, 0)
    return normalized.sum(), tgt_mask.sum()


def corpus_entropy(alignments: Sequence[Float[np.ndarray, "_T _S"]]) -> float | None:
    """The mean over all target positions of a corpus that look anywhere; None where none does."""
    found = [normalized_entropy(torch.as_tensor(alignment)) for alignment in alignments]
    number = sum(int(looking) for _, looking in found)
    return sum(float(total) for total, _ in found) / number if number else None


def looks(alignment: Float[Tensor, "*B T S"]) -> Bool[Tensor, "*B T"]:
    """Which target positions have any weights: all, but for padding and for a model without attention."""
    return (alignment > 0).any(-1)


def diagnostics(
    alignment: Float[Tensor, "B T S"], src_mask: Bool[Tensor, "B S"], tgt_mask: Bool[Tensor, "B T"]
) -> dict[str, tuple[Float[Tensor, ""], Int[Tensor, ""]]]:
    """What a batch of attention looks like: by name a sum, and the number of things that it is over. Masks: as above.

    - `max_weight`: the greatest weight of each target position.
    - `eos_mass`: the weight on the last source position, the end symbol, at each target position but the last.
    - `monotonicity`: 1 where the greatest weight (of equal ones the first) does not lie before that of the target
      position before, else 0; of positions that look anywhere.
    - `coverage`: min(1, Σ_t a_ts) of each source position (the sum is Wu et al. 2016's, arXiv 1609.08144, equation 14).
    - `energy_spread`: the standard deviation of a target position's energies, told from its weights by ln a_ts, where
      there are two real source positions or more. A score times β has β times the spread: the effective β, as long as
      float32 can tell. An energy 87 below the greatest or more counts as 87 below, so from about 17 on it is less than
      the true spread, and never much above 25.
    """
    weights = alignment.detach()
    weights = weights if weights.dtype == torch.float64 else weights.float()
    weights = weights.masked_fill(~(tgt_mask[..., None] & src_mask[:, None]), 0)
    lengths, tgt_lengths = src_mask.sum(-1), tgt_mask.sum(-1)  # B
    last = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, weights.size(1), 1)
    before_end = torch.arange(weights.size(1), device=weights.device) < tgt_lengths[:, None] - 1  # B T
    best = weights.argmax(-1)
    looking = tgt_mask & looks(weights)
    followed = looking[:, 1:] & looking[:, :-1]
    onwards = (best[:, 1:] >= best[:, :-1]) & followed
    energies = weights.clamp(min=torch.finfo(weights.dtype).tiny).log().masked_fill(~src_mask[:, None], 0)
    num = lengths[:, None].clamp(min=1)
    mean = energies.sum(-1) / num  # B T
    variance = ((energies - mean[..., None]).square() * src_mask[:, None]).sum(-1) / num
    chosen = tgt_mask & (lengths > 1)[:, None]
    return {
        "max_weight": (weights.amax(-1).sum(), tgt_mask.sum()),
        "eos_mass": ((weights.gather(-1, last).squeeze(-1) * before_end).sum(), before_end.sum()),
        "monotonicity": (onwards.sum(), followed.sum()),
        "coverage": (weights.sum(1).clamp(max=1).sum(), src_mask.sum()),
        "energy_spread": ((variance.sqrt() * chosen).sum(), chosen.sum()),
    }
