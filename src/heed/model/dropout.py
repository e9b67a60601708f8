"""Dropout of the model's parts."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heed.ops.dropout import dropout


class Dropout(nn.Module):
    """Dropout for each position by itself or, `locked`, one draw for all positions of a sentence.

    Locked dropout is variational dropout (Gal & Ghahramani 2016, arXiv 1512.05287, §4.1), without dropout of the states
    that go from one position to the next.
    """

    def __init__(self, p: float, locked: bool = False) -> None:
        super().__init__()
        self.p, self.locked = p, locked

    def forward(self, x: Float[Tensor, "*shape"], positions: int = 1) -> Float[Tensor, "*shape"]:
        """Drop in training mode. `positions` is the axis of the positions."""
        if not self.training or self.p == 0:
            return x
        if self.locked:
            return x * dropout(torch.ones_like(x.narrow(positions, 0, 1)), self.p)
        return dropout(x, self.p)

    def masks(self, like: Float[Tensor, "B T X"]) -> tuple[Float[Tensor, "B T X"], ...]:
        """Return the factors that drop values of this shape, for use in a loop. Empty if nothing is dropped."""
        return (self(torch.ones_like(like)),) if self.training and self.p else ()
