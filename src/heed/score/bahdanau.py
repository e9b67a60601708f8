"""Bahdanau's additive score."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heed import fast
from heed.linear import Linear
from heed.score.additive import additive_energy
from heed.score.score import Score


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
            raise ValueError(f"score.dim is {dim}: it must be at least 1, or null for the query's size")
        self.W_a = Linear(query_dim, dim, bias=False)
        self.U_a = Linear(key_dim, dim, bias=False)
        self.v_a = nn.Parameter(torch.empty(dim).uniform_(-(dim**-0.5), dim**-0.5))

    def prepare(self, states: Float[Tensor, "B S K"]) -> Float[Tensor, "B S A"]:
        """U_a h."""
        return self.U_a(states).to(self.v_a.dtype)

    def forward(self, query: Float[Tensor, "B N Q"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B N S"]:
        """Energies v_aᵀ tanh(W_a s_n + U_a h_i)."""
        if fast.enabled and not torch.compiler.is_compiling():
            return additive_energy(self.W_a(query), keys, self.v_a)
        return (torch.tanh(self.W_a(query)[:, :, None] + keys[:, None]) * self.v_a).sum(
            -1
        )  # B N S A -> B N S
