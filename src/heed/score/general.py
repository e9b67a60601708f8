"""Luong's general score."""

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heed.score.score import Score


class General(Score):
    """h · W_a s (Luong et al. 2015, arXiv 1508.04025, §3.1, `general`). `W_a`: K × Q, no bias.

    `W_a` is learned as W_a = P / √K. Adam moves every entry of what it learns by about the learning rate, whatever its
    gradient; of `W_a` itself, that would move an energy by up to the rate times ‖h‖₁ ‖s‖₁, a softmax's whole range.
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
        """W_aᵀ h, since h · W_a s = (W_aᵀ h) · s: one product per sentence instead of one per step."""
        return states @ self.W_a  # A = Q

    def forward(self, query: Float[Tensor, "B N Q"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B N S"]:
        """Energies (W_aᵀ h_i) · s_n."""
        return query @ keys.mT
