"""What every attention score is."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn


class Score(nn.Module, ABC):
    """Compares queries with keys and gives energies. Nothing else: no mask, no softmax, no context, no stored state.

    `Attention` calls `prepare` once per source sentence and `forward` at every decoder step, with as many
    queries N as there are: one in a step, all target positions at once, or the hypotheses of a beam.

    Your own score subclasses this one, takes `query_dim` and `key_dim` first, and may add keyword arguments of its
    own, which its YAML then sets.
    """

    equation: ClassVar[str] = ""  # shown by `make scores`
    reference: ClassVar[str] = ""

    def __init__(self, query_dim: int, key_dim: int) -> None:
        """Args: `query_dim`, Q, the decoder state's size; `key_dim`, K, the encoder state's size."""
        super().__init__()
        self.query_dim = query_dim
        self.key_dim = key_dim

    def prepare(self, states: Float[Tensor, "B S K"]) -> Float[Tensor, "B S A"]:
        """Everything about the encoder states that no query changes, done once per source sentence."""
        return states

    @abstractmethod
    def forward(self, query: Float[Tensor, "B N Q"], keys: Float[Tensor, "B S A"]) -> Float[Tensor, "B N S"]:
        """The energy of each query with each prepared key."""

    def require_equal_dims(self) -> None:
        """Raises `ValueError` where a product of query and key is asked for and their sizes differ."""
        if self.query_dim != self.key_dim:
            raise ValueError(
                f"{type(self).__name__} multiplies query and key, so their sizes must be equal: the query (decoder "
                f"state) has {self.query_dim}, the key (encoder state) {self.key_dim}. Set model.decoder_dim to "
                f"{self.key_dim}, change model.encoder_dim, or take score=general, which joins any two sizes"
            )
