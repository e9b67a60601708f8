"""Numbers that say what an alignment looks like, and its store on disk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor


def normalized_entropy(
    alignment: Float[Tensor, "*B T S"],
    src_mask: Bool[Tensor, "*B S"] | None = None,
    tgt_mask: Bool[Tensor, "*B T"] | None = None,
) -> Float[Tensor, ""]:
    """How spread the attention is: 0 where each target position looks at one source position, 1 at all alike.

    It is the mean of `-Σ_s a_s ln a_s / ln S` over the real target positions, with S the number of real
    source positions of the sentence; it is 0 for a sentence of one source position, which has no choice,
    and for no positions at all. Masks are True on real tokens; without a mask every position is real.
    """
    weights = alignment.detach()
    weights = weights if weights.dtype == torch.float64 else weights.float()
    if src_mask is None:
        src_mask = weights.new_ones(weights.shape[:-2] + weights.shape[-1:], dtype=torch.bool)
    if tgt_mask is None:
        tgt_mask = weights.new_ones(weights.shape[:-1], dtype=torch.bool)
    entropy = torch.special.entr(weights).masked_fill(~src_mask.unsqueeze(-2), 0).sum(-1)  # *B T
    most = src_mask.sum(-1, keepdim=True).clamp(min=1).to(weights.dtype).log()  # *B 1
    normalized = torch.where(most > 0, entropy / most, 0).masked_fill(~tgt_mask, 0)
    return normalized.sum() / tgt_mask.sum().clamp(min=1)


def save_alignments(path: Path, alignments: Sequence[Float[np.ndarray, "_T _S"]]) -> None:
    """Writes matrices of any shapes as two plain arrays: all `weights` in a row, and their `shapes`."""
    flat = [np.asarray(alignment, dtype=np.float32).ravel() for alignment in alignments]
    with path.open("wb") as file:  # to a path numpy would add a suffix
        np.savez_compressed(
            file,
            weights=np.concatenate([np.empty(0, np.float32), *flat]),
            shapes=np.array([alignment.shape for alignment in alignments], dtype=np.int32).reshape(-1, 2),
        )


def load_alignments(path: Path) -> list[Float[np.ndarray, "_T _S"]]:
    """Reads what `save_alignments` wrote; nothing is unpickled."""
    with np.load(path, allow_pickle=False) as stored:
        weights, shapes = stored["weights"], stored["shapes"]
    parts = np.split(weights, np.cumsum(shapes.prod(axis=1))[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=False)]
