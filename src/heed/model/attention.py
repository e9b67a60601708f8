"""Attention: what all scores share."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from heed.score import Score

softmax = partial(torch.softmax, dim=-1)


def attend(
    query: Float[Tensor, "*B N Q"],
    keys: Float[Tensor, "*B S K"],
    values: Num[Tensor, "*B S D"],
    score: Callable[[Tensor, Tensor], Tensor],
    normalize: Callable[[Tensor], Tensor] | None = softmax,
) -> tuple[Num[Tensor, "*B N D"], Num[Tensor, "*B N S"]]:
    """Looks queries up: weights = normalize(score(query, keys)), answer = weights · values.

    With an equality test as the score and no normaliser this is a dictionary; with a similarity it is a soft one;
    with a dot product and the softmax it is attention (`docs/attention.md` walks the way).

    Args:
        query: what is asked.
        keys: what it is compared with.
        values: what is answered; attention takes the keys themselves.
        score: any function (query "N Q", keys "S K") -> energies "N S", or a `Score`, whose `prepare` is applied to
            the keys, and which takes exactly one axis B before these.
        normalize: makes weights of energies, along the last axis; `None` leaves them.

    Returns: the answers and the weights.
    Raises: `ValueError` for a `Score` and other axes.
    """
    if isinstance(score, Score):
        if query.dim() != 3 or keys.dim() != 3:
            raise ValueError(
                f"{type(score).__name__} takes queries (B, N, {score.query_dim}) and keys (B, S, {score.key_dim}), not "
                f"{tuple(query.shape)} and {tuple(keys.shape)}: for one sentence, unsqueeze(0) both, and the values"
            )
        keys = score.prepare(keys)
    return _read(score(query, keys), values, normalize)


def _read(
    energy: Tensor, values: Tensor, normalize: Callable[[Tensor], Tensor] | None
) -> tuple[Tensor, Tensor]:
    weights = energy if normalize is None else normalize(energy)
    if not values.is_floating_point():  # of integers the weights would be cut to 0
        values = values.to(torch.promote_types(weights.dtype, values.dtype))
    if torch.compiler.is_compiling() and weights.size(-2) == 1:  # a sum is fused with what is around it
        return (weights.mT * values).sum(-2, keepdim=True).to(values.dtype), weights
    return weights.to(values.dtype) @ values, weights


def masked_softmax(energy: Float[Tensor, "B N S"], mask: Bool[Tensor, "B S"]) -> Float[Tensor, "B N S"]:
    """The softmax over real positions, in at least float32; exactly 0 elsewhere, and where every energy is -∞."""
    energy = energy.masked_fill(~mask[:, None], -torch.inf)
    nothing = (energy == -torch.inf).all(-1, keepdim=True)
    # Filled before the softmax too, whose gradient would be no number there.
    weights = energy.masked_fill(nothing, 0).softmax(
        -1, dtype=torch.promote_types(energy.dtype, torch.float32)
    )
    return weights.masked_fill(nothing, 0)


class Memory(NamedTuple):
    """What the decoder may ask about the source sentences: a plain value, the same at every step."""

    keys: Float[Tensor, "B S A"]  # prepared by the score
    values: Float[Tensor, "B S K"]  # the encoder states
    mask: Bool[Tensor, "B S"]  # True on real tokens

    def select(self, rows: Tensor) -> "Memory":
        """The memory of some of the sentences, by index."""
        return Memory(self.keys[rows], self.values[rows], self.mask[rows])


class Attention(nn.Module):
    """The softmax of a score's energies over real source positions, and the mean of the states that it weighs."""

    def __init__(self, score: Score) -> None:
        super().__init__()
        self.score = score

    def remember(self, states: Float[Tensor, "B S K"], mask: Bool[Tensor, "B S"]) -> Memory:
        """Prepares the encoder states; once per source sentence."""
        return Memory(self.score.prepare(states), states, mask)

    def forward(
        self, query: Float[Tensor, "B N Q"], memory: Memory
    ) -> tuple[Float[Tensor, "B N K"], Float[Tensor, "B N S"]]:
        """Context and alignment of each query."""
        energy = self.score(query, memory.keys)
        return _read(energy, memory.values, partial(masked_softmax, mask=memory.mask))
