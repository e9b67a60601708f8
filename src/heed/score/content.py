"""Graves' content-based score."""

from math import log

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from heed.errors import UserError
from heed.score.base import Score

# Vectors are divided by their length or by EPS, the greater one. So a zero vector has cosine 0 and a finite gradient.
EPS = 1e-6


class Content(Score):
    """β (s · h) / (‖s‖ ‖h‖) (Graves et al. 2014, arXiv 1410.5401, §3.3.1, equations 5 and 6). Q must equal K.

    A cosine is at most 1, so its softmax is nearly flat. The key strength β > 0 sharpens it. β starts at `beta`. Its
    logarithm is learned, so that β stays positive. `learn_beta=False` keeps β fixed.
    """

    equation = "β (s · h) / (‖s‖ ‖h‖)"
    reference = "Graves et al. 2014, §3.3.1 (arXiv 1410.5401)"

    def __init__(self, query_dim: int, key_dim: int, beta: float = 10.0, learn_beta: bool = True) -> None:
        super().__init__(query_dim, key_dim)
        self.require_equal_dims()
        if beta <= 0:
            raise UserError(f"score.beta is {beta}: the key strength must be positive. 10 is a good start")
        self.log_beta = nn.Parameter(torch.tensor(log(beta)), requires_grad=learn_beta)

    @property
    def beta(self) -> Float[Tensor, ""]:
        """The key strength β."""
        return self.log_beta.exp()

    def prepare(self, states: Float[Tensor, "B S K"]) -> Float[Tensor, "B S A"]:
        """Return β h / ‖h‖."""
        return self.beta * normalize(states, dim=-1, eps=EPS)

    def forward(self, query: Float[Tensor, "B N Q"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B N S"]:
        """Return the energies (s_n / ‖s_n‖) · (β h_i / ‖h_i‖)."""
        return normalize(query, dim=-1, eps=EPS) @ keys.mT
