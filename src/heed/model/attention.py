"""Attention: what all scores share, and `attend`, the same as a function."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from heed.errors import UserError
from heed.ops.weighted_sum import weighted_sum
from heed.score import NoAttention, Score

softmax = partial(torch.softmax, dim=-1)


def attend(
    query: Float[Tensor, "*B N Q"],
    keys: Float[Tensor, "*B S K"],
    values: Num[Tensor, "*B S D"],
    score: Callable[[Tensor, Tensor], Tensor],
    normalize: Callable[[Tensor], Tensor] | None = softmax,
) -> tuple[Num[Tensor, "*B N D"], Num[Tensor, "*B N S"]]:
    """Look queries up: weights = normalize(score(query, keys)), answer = weights · values.

    With an equality test as the score and no normaliser this is a dictionary. With a similarity it is a soft
    dictionary. With a dot product and the softmax it is attention (`docs/attention.md` has the steps between).

    Args:
        query: the questions.
        keys: what the questions are compared with.
        values: what answers are made of. Attention takes the keys themselves.
        score: any function (query "N Q", keys "S K") -> energies "N S", or a `Score`. A `Score` prepares the keys
            first, and takes exactly one axis B before these.
        normalize: makes weights of energies, along the last axis. `None` takes the energies as weights.

    Returns:
        The answers and the weights.

    Raises:
        UserError: a `Score` is given queries or keys with other axes.
    """
    if isinstance(score, Score):
        if query.dim() != 3 or keys.dim() != 3:
            raise UserError(
                f"{type(score).__name__} takes queries (B, N, {score.query_dim}) and keys (B, S, {score.key_dim}), not "
                f"{tuple(query.shape)} and {tuple(keys.shape)}: for one sentence, unsqueeze(0) both, and the values"
            )
        keys = score.prepare(keys)
    energy = score(query, keys)
    weights = energy if normalize is None else normalize(energy)
    if not values.is_floating_point():  # as integers, weights between 0 and 1 would become 0
        values = values.to(torch.promote_types(weights.dtype, values.dtype))
    return weighted_sum(weights, values), weights


def masked_softmax(energy: Float[Tensor, "B N S"], mask: Bool[Tensor, "B S"]) -> Float[Tensor, "B N S"]:
    """Return the softmax over real positions, in float32 or wider. Weights elsewhere are exactly 0."""
    energy = energy.masked_fill(~mask[:, None], -torch.inf)
    return energy.softmax(-1, dtype=torch.promote_types(energy.dtype, torch.float32))


def no_weights(energy: Float[Tensor, "B N S"], mask: Bool[Tensor, "B S"]) -> Float[Tensor, "B N S"]:
    """Return 0 for every position: the weights of a model without attention."""
    return torch.zeros_like(energy)


class Memory(NamedTuple):
    """The source sentences as the decoder sees them: a plain value, the same at every step."""

    keys: Float[Tensor, "B S A"]  # prepared by the score
    values: Float[Tensor, "B S K"]  # the encoder states
    mask: Bool[Tensor, "B S"]  # True on real tokens

    def select(self, rows: Tensor) -> "Memory":
        """Return the memory of some of the sentences, by index."""
        return Memory(self.keys[rows], self.values[rows], self.mask[rows])


class Attention(nn.Module):
    """The part that all scores share: mask, softmax, and context, the mean of the states by their weights."""

    def __init__(self, score: Score) -> None:
        super().__init__()
        self.score = score
        # The control `none` has an energy of -∞ everywhere, and there is no softmax of that.
        self.normalize = no_weights if isinstance(score, NoAttention) else masked_softmax

    def remember(self, states: Float[Tensor, "B S K"], mask: Bool[Tensor, "B S"]) -> Memory:
        """Prepare the encoder states, once for each source sentence."""
        return Memory(self.score.prepare(states), states, mask)

    def forward(
        self, query: Float[Tensor, "B N Q"], memory: Memory
    ) -> tuple[Float[Tensor, "B N K"], Float[Tensor, "B N S"]]:
        """Return the context and the alignment of each query."""
        alignment = self.normalize(self.score(query, memory.keys), memory.mask)
        return weighted_sum(alignment, memory.values), alignment
