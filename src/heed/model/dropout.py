"""Dropout, several times faster on a CPU than torch's own."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn


def dropout(x: Float[Tensor, "*shape"], p: float, training: bool) -> Float[Tensor, "*shape"]:
    """In training, zeroes each number with probability `p`, divides the others by 1 - p (Srivastava et al. 2014).

    Sixteen random bits decide about each number, so `p` is taken to the nearest 2⁻¹⁶. Torch's own dropout draws a
    Bernoulli variable at a time, which takes five times as long on a CPU.
    """
    if not training or p == 0:
        return x
    drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(1 << 63), None)
    drawn = drawn.view(torch.int16)[: x.numel()].view(x.shape)
    least = min(round(p * (1 << 16)), (1 << 16) - 1) - (1 << 15)  # what is kept
    return x * (drawn >= least).to(x.dtype).mul_(1 / (1 - p))


_seed: int | None = None


class Dropout(nn.Module):
    """`dropout` as a module, of one position or, `locked`, of all positions of a sentence alike.

    The latter is variational dropout (Gal & Ghahramani 2016, arXiv 1512.05287, §4.1), but for states that go from one
    position to the next, which are not dropped at all.
    """

    def __init__(self, p: float, locked: bool = False) -> None:
        super().__init__()
        self.p, self.locked = p, locked

    def forward(self, x: Float[Tensor, "*shape"], positions: int = -1) -> Float[Tensor, "*shape"]:
        """Acts in training mode only. `positions`: their axis."""
        if not self.locked or not self.training:
            return dropout(x, self.p, self.training)
        with torch.random.fork_rng(enabled=_seed is not None):
            if _seed is not None:
                torch.manual_seed(_seed)
            return x * dropout(torch.ones_like(x.narrow(positions, 0, 1)), self.p, self.training)


@contextmanager
def locked_by(seed: int | None) -> Iterator[None]:
    """Within it, what is locked draws from this seed, if there is one: for positions that come one by one."""
    global _seed
    before, _seed = _seed, seed
    try:
        yield
    finally:
        _seed = before
