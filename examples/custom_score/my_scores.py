"""Your own score: one class in this file, and one YAML in configs/score/."""

from math import sqrt

from torch import Tensor, nn

from heed.score import Score


class Distance(Score):
    """-sharpness · ‖W_a s - h‖² / √K. The nearer a key is to the transformed query, the higher is its energy.

    After the softmax, the weight of a key is a Gaussian function of its distance from W_a s. `W_a`: K × Q.
    """

    equation = "-sharpness · ‖W_a s - h‖² / √K"
    reference = "examples/custom_score"

    def __init__(self, query_dim: int, key_dim: int, sharpness: float = 1.0) -> None:
        super().__init__(query_dim, key_dim)
        self.sharpness = sharpness
        self.W_a = nn.Linear(query_dim, key_dim, bias=False)

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return the energies (B N S) of N queries (B N Q) with S keys (B S K)."""
        difference = self.W_a(query)[:, :, None] - keys[:, None]  # B N S K
        return -self.sharpness * difference.square().sum(-1) / sqrt(self.key_dim)
