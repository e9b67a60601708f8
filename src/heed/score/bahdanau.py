"""Bahdanau's additive score."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heed.errors import UserError
from heed.ops import additive
from heed.ops.linear import Linear
from heed.ops.switch import accelerated
from heed.score.base import Score


@accelerated(by=additive.additive_energy)
def additive_energy(
    query: Float[Tensor, "B N A"], keys: Float[Tensor, "B S A"], v: Float[Tensor, " A"]
) -> Float[Tensor, "B N S"]:
    """Return v · tanh(query + key) for every query and key."""
    sums = query[:, :, None] + keys[:, None]  # B N S A
    return (torch.tanh(sums) * v).sum(-1)


class Bahdanau(Score):
    """v_aᵀ tanh(W_a s + U_a h) (Bahdanau et al. 2015, arXiv 1409.0473, §3.1 and appendix A.1.2).

    Luong's `concat`, v_aᵀ tanh(W [s; h]), is the same function with W = [W_a, U_a] (§3.1 there).
    `W_a`: A × Q, `U_a`: A × K, `v_a`: A; no biases. A is `dim`, by default the query's size.
    """

    equation = "v_aᵀ tanh(W_a s + U_a h)"
    reference = "Bahdanau et al. 2015, §3.1, A.1.2 (arXiv 1409.0473); Luong et al. 2015, §3.1, concat"

    def __init__(self, query_dim: int, key_dim: int, dim: int | None = None) -> None:
        super().__init__(query_dim, key_dim)
        dim = query_dim if dim is None else dim
        if dim < 1:
            raise UserError(f"score.dim is {dim}: it must be at least 1, or null for the query's size")
        self.W_a = Linear(query_dim, dim, bias=False)
        self.U_a = Linear(key_dim, dim, bias=False)
        self.v_a = nn.Parameter(torch.empty(dim).uniform_(-(dim**-0.5), dim**-0.5))

    def prepare(self, states: Float[Tensor, "B S K"]) -> Float[Tensor, "B S A"]:
        """Return U_a h, in the data type of v_a."""
        return self.U_a(states).to(self.v_a.dtype)

    def forward(self, query: Float[Tensor, "B N Q"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B N S"]:
        """Return the energies v_aᵀ tanh(W_a s_n + U_a h_i)."""
        return additive_energy(self.W_a(query), keys, self.v_a)
