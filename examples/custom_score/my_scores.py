"""A score of your own: one class here, one YAML in configs/score/."""

from math import sqrt

from torch import Tensor, nn

from heed.score import Score


class Distance(Score):
    """-sharpness · ‖W_a s - h‖² / √K: the nearer a key is to the transformed query, the higher its energy.

    The softmax of it weighs each key by a Gaussian bump around W_a s. `W_a`: K × Q.
    """

    equation = "-sharpness · ‖W_a s - h‖² / √K"
    reference = "examples/custom_score"

    def __init__(self, query_dim: int, key_dim: int, sharpness: float = 1.0) -> None:
        super().__init__(query_dim, key_dim)
        self.sharpness = sharpness
        self.W_a = nn.Linear(query_dim, key_dim, bias=False)

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        """Energies of N queries (B N Q) with S keys (B S K): B N S."""
        difference = self.W_a(query)[:, :, None] - keys[:, None]  # B N S K
        return -self.sharpness * difference.square().sum(-1) / sqrt(self.key_dim)
