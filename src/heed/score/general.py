"""Luong's general score."""

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heed.score.base import Score


class General(Score):
    """h · W_a s (Luong et al. 2015, arXiv 1508.04025, §3.1, `general`). `W_a`: K × Q, no bias.

    The learned parameter is P, with W_a = P / √K. Adam moves each entry of a parameter by about the learning rate,
    whatever its gradient. If `W_a` itself were learned, one step could move an energy by the learning rate times
    ‖h‖₁ ‖s‖₁: by the whole range of a softmax.
    """

    equation = "h · W_a s"
    reference = "Luong et al. 2015, §3.1, general (arXiv 1508.04025)"

    def __init__(self, query_dim: int, key_dim: int) -> None:
        super().__init__(query_dim, key_dim)
        self.P = nn.Parameter(nn.init.xavier_uniform_(torch.empty(key_dim, query_dim), gain=sqrt(key_dim)))

    @property
    def W_a(self) -> Float[Tensor, "K Q"]:
        """The weights W_a."""
        return self.P / sqrt(self.key_dim)

    def prepare(self, states: Float[Tensor, "B S K"]) -> Float[Tensor, "B S A"]:
        """Return W_aᵀ h. As h · W_a s = (W_aᵀ h) · s, this takes one product per sentence instead of one per step."""
        return states @ self.W_a  # A = Q

    def forward(self, query: Float[Tensor, "B N Q"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B N S"]:
        """Return the energies (W_aᵀ h_i) · s_n."""
        return query @ keys.mT
