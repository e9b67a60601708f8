"""The base class of all attention scores."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from heed.errors import UserError


class Score(nn.Module, ABC):
    """Compares queries with keys and returns energies. It has no mask, no softmax, no context and no stored state.

    `Attention` calls `prepare` once per source sentence, and `forward` for N queries at a time. N is 1 in a recurrent
    step, the number of hypotheses in a beam, and T if all target positions attend at once.

    To write your own score, make a subclass whose first arguments are `query_dim` and `key_dim`. The score's YAML sets
    any other keyword arguments.
    """

    equation: ClassVar[str] = ""  # shown by `make scores`
    reference: ClassVar[str] = ""

    def __init__(self, query_dim: int, key_dim: int) -> None:
        """Set the sizes.

        Args:
            query_dim: Q, the size of a decoder state.
            key_dim: K, the size of an encoder state.
        """
        super().__init__()
        self.query_dim = query_dim
        self.key_dim = key_dim

    def prepare(self, states: Float[Tensor, "B S K"]) -> Float[Tensor, "B S A"]:
        """Return the prepared keys: everything that does not depend on a query, once per source sentence."""
        return states

    @abstractmethod
    def forward(self, query: Float[Tensor, "B N Q"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B N S"]:
        """Return the energy of each query with each prepared key."""

    def require_equal_dims(self) -> None:
        """Raise `UserError` unless queries and keys have the same size, as a product of them needs."""
        if self.query_dim != self.key_dim:
            raise UserError(
                f"{type(self).__name__} multiplies query and key, but the query (decoder state) has size "
                f"{self.query_dim} and the key (encoder state) has size {self.key_dim}. Set model.decoder_dim to "
                f"{self.key_dim}, change model.encoder_dim, or take score=general, which accepts any two sizes"
            )
