"""Luong's dot score."""

from jaxtyping import Float
from torch import Tensor

from heed.score.base import Score


class Dot(Score):
    """h · s (Luong et al. 2015, arXiv 1508.04025, §3.1, `dot`). No parameters; Q must equal K."""

    equation = "h · s"
    reference = "Luong et al. 2015, §3.1, dot (arXiv 1508.04025)"

    def __init__(self, query_dim: int, key_dim: int) -> None:
        super().__init__(query_dim, key_dim)
        self.require_equal_dims()

    def forward(self, query: Float[Tensor, "B N Q"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B N S"]:
        """Return the energies h_i · s_n."""
        return query @ keys.mT
