"""Vaswani's scaled dot score."""

from math import sqrt

from jaxtyping import Float
from torch import Tensor

from heed.score.base import Score


class ScaledDot(Score):
    """s · h / √n, n the size of h (Vaswani et al. 2017, arXiv 1706.03762, §3.2.1, equation 1). Q must equal K."""

    equation = "s · h / √n, n the size of h"
    reference = "Vaswani et al. 2017, §3.2.1 (arXiv 1706.03762)"

    def __init__(self, query_dim: int, key_dim: int) -> None:
        super().__init__(query_dim, key_dim)
        self.require_equal_dims()

    def prepare(self, states: Float[Tensor, "B S K"]) -> Float[Tensor, "B S A"]:
        """Return h / √n, once per sentence instead of once per query."""
        return states / sqrt(self.key_dim)

    def forward(self, query: Float[Tensor, "B N Q"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B N S"]:
        """Return the energies s_n · h_i / √n."""
        return query @ keys.mT
