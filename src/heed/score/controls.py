"""Controls: scores without attention, or with attention that does not learn, to compare real scores with."""

from math import inf

import torch
from jaxtyping import Float
from torch import Tensor

from heed.score.base import Score


class Uniform(Score):
    """0. Every state has the same weight, so the context is their mean. No parameters."""

    equation = "0"
    reference = "control: the mean of the states"

    def forward(self, query: Float[Tensor, "B N Q"], keys: Float[Tensor, "B S K"]) -> Float[Tensor, "B N S"]:
        """Return the energies 0."""
        return _constant(query, keys, 0)


class Last(Score):
    """10⁴ i at position i. After the softmax, the last real state has all the weight. No parameters."""

    equation = "10⁴ i"
    reference = "control: the final state only"

    def forward(self, query: Float[Tensor, "B N Q"], keys: Float[Tensor, "B S K"]) -> Float[Tensor, "B N S"]:
        """Return the energies 10⁴ i in float32 or wider. The softmax rounds all weights but the last to 0."""
        places = torch.arange(keys.size(-2), device=keys.device)
        return _constant(query, keys, 0) + 1e4 * places


class NoAttention(Score):
    """-∞. All weights and the context are 0, so only the bridge carries the source to the decoder. No parameters."""

    equation = "-∞"
    reference = "control: no attention, the plain encoder-decoder of Sutskever et al. 2014 (arXiv 1409.3215)"

    def forward(self, query: Float[Tensor, "B N Q"], keys: Float[Tensor, "B S K"]) -> Float[Tensor, "B N S"]:
        """Return the energies -∞."""
        return _constant(query, keys, -inf)


class Random(Score):
    """h · R s with a random matrix, R_ij ~ N(0, 1/√(K Q)), that is never learned. No parameters: `R` is a buffer.

    The rest of the model can adapt to R. The difference from `general` is the worth of learning the score.
    """

    equation = "h · R s, R frozen"
    reference = "control: Luong's general, not learned"
    R: Tensor

    def __init__(self, query_dim: int, key_dim: int) -> None:
        super().__init__(query_dim, key_dim)
        self.register_buffer("R", torch.randn(key_dim, query_dim) / (key_dim * query_dim) ** 0.25)

    def prepare(self, states: Float[Tensor, "B S K"]) -> Float[Tensor, "B S Q"]:
        """Return Rᵀ h."""
        return states @ self.R

    def forward(self, query: Float[Tensor, "B N Q"], keys: Float[Tensor, "B S Q"]) -> Float[Tensor, "B N S"]:
        """Return the energies (Rᵀ h_i) · s_n."""
        return query @ keys.mT


def _constant(query: Tensor, keys: Tensor, energy: float) -> Float[Tensor, "B N S"]:
    """Return the same energy for every query and key, in float32 or wider."""
    shape = (*query.shape[:-1], keys.size(-2))
    return query.new_full(shape, energy, dtype=torch.promote_types(query.dtype, torch.float32))
