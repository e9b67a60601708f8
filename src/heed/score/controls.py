"""Controls: what attention is worth is seen beside scores that do not look, each in the slot of a real one."""

from math import inf

import torch
from jaxtyping import Float
from torch import Tensor

from heed.score.score import Score


class Uniform(Score):
    """0: every state weighs the same, so the context is their mean. No parameters."""

    equation = "0"
    reference = "control: the mean of the states"

    def forward(self, query: Float[Tensor, "B N Q"], keys: Float[Tensor, "B S K"]) -> Float[Tensor, "B N S"]:
        """Energies 0."""
        return _constant(query, keys, 0)


class Last(Score):
    """10⁴ i at position i: after the softmax the last real state has all the weight. No parameters."""

    equation = "10⁴ i"
    reference = "control: the final state only"

    def forward(self, query: Float[Tensor, "B N Q"], keys: Float[Tensor, "B S K"]) -> Float[Tensor, "B N S"]:
        """Energies 10⁴ i in float32 or wider, whose exponentials are 0 beside the greatest."""
        places = torch.arange(keys.size(-2), device=keys.device)
        return _constant(query, keys, 0) + 1e4 * places


class NoAttention(Score):
    """-∞: no state is like any query, so all weights and the context are 0, and the bridge alone carries the source."""

    equation = "-∞"
    reference = "control: no attention, the plain encoder-decoder of Sutskever et al. 2014 (arXiv 1409.3215)"

    def forward(self, query: Float[Tensor, "B N Q"], keys: Float[Tensor, "B S K"]) -> Float[Tensor, "B N S"]:
        """Energies -∞."""
        return _constant(query, keys, -inf)


class Random(Score):
    """h · R s with a matrix drawn once and never learned, R_ij ~ N(0, 1/√(K Q)). No parameters; `R` is a buffer.

    The rest of the model may learn to live with it: what is missed beside `general` is what learning the score adds.
    """

    equation = "h · R s, R frozen"
    reference = "control: Luong's general, not learned"
    R: Tensor

    def __init__(self, query_dim: int, key_dim: int) -> None:
        super().__init__(query_dim, key_dim)
        self.register_buffer("R", torch.randn(key_dim, query_dim) / (key_dim * query_dim) ** 0.25)

    def prepare(self, states: Float[Tensor, "B S K"]) -> Float[Tensor, "B S Q"]:
        """Rᵀ h."""
        return states @ self.R

    def forward(self, query: Float[Tensor, "B N Q"], keys: Float[Tensor, "B S Q"]) -> Float[Tensor, "B N S"]:
        """Energies (Rᵀ h_i) · s_n."""
        return query @ keys.mT


def _constant(query: Tensor, keys: Tensor, energy: float) -> Float[Tensor, "B N S"]:
    shape = (*query.shape[:-1], keys.size(-2))
    return query.new_full(shape, energy, dtype=torch.promote_types(query.dtype, torch.float32))
