"""Checks of a user's own score."""

import torch
from torch import Tensor

from heed.errors import UserError
from heed.score import NoAttention, Score

B, N, S = 2, 3, 5  # sentences, queries and keys of the checks


@torch.no_grad()
def check_score(score: Score) -> None:
    """Raise `UserError` unless an energy depends on its query, its key and the key's position alone.

    Energies of a wrong shape might fit by broadcasting, and energies that depend on other keys depend on padding.
    Neither would fail during training.

    The score is left in evaluation mode, and its parameters may have changed.
    """
    draw = torch.Generator().manual_seed(0)
    queries = torch.randn(B, N, score.query_dim, generator=draw)
    states = torch.randn(B, S, score.key_dim, generator=draw)
    score.eval()
    keys = score.prepare(states)
    _check_keys(score, keys, states)
    _check_energy(score, score(queries, keys))
    _draw_zeros(score, queries, states, draw)
    _check_independence(score, queries, states)


def _check_keys(score: Score, keys: object, states: Tensor) -> None:
    """Raise `UserError` unless there is a key for each state."""
    if not isinstance(keys, Tensor) or keys.shape[:2] != (B, S):
        found = tuple(keys.shape) if isinstance(keys, Tensor) else type(keys).__name__
        raise UserError(
            f"score: prepare of {type(score).__name__} gives {found} for states of shape {tuple(states.shape)}: it "
            f"must be one tensor whose shape begins with {(B, S)}, a key for each state"
        )


def _check_energy(score: Score, energy: object) -> None:
    """Raise `UserError` unless the energies are numbers of the right shape that have a softmax."""
    name = type(score).__name__
    if not isinstance(energy, Tensor) or not energy.is_floating_point():
        kind = energy.dtype if isinstance(energy, Tensor) else type(energy).__name__
        raise UserError(
            f"score: {name} gives energies of type {kind}: it must be a tensor of floating-point numbers. Other types "
            "have no -∞, which masks padding"
        )
    if energy.shape != (B, N, S):
        raise UserError(
            f"score: {name} gives energies of shape {tuple(energy.shape)} for {B} sentences, {N} queries and {S} keys: "
            f"it must be {(B, N, S)}, an energy for each query and key"
        )
    if energy.isnan().any():
        raise UserError(
            f"score: {name} gives energies that are NaN for random queries and keys: check its divisions, square "
            "roots and logarithms"
        )
    if not isinstance(score, NoAttention) and energy.isneginf().all(-1).any():
        raise UserError(
            f"score: {name} gives a query the energy -∞ at all positions: an energy must be finite for at least one "
            "position. Mask fewer positions, or take score=none"
        )


def _draw_zeros(score: Score, queries: Tensor, states: Tensor, draw: torch.Generator) -> None:
    """Draw the parameters that begin at zero, because a zero hides what it multiplies.

    If the score gives NaN with the drawn values, the parameters stay zero.
    """
    zeros = [parameter for parameter in score.parameters() if parameter.requires_grad and not parameter.any()]
    for parameter in zeros:
        parameter.uniform_(0, 0.1, generator=draw)
    if score(queries, score.prepare(states)).isnan().any():
        for parameter in zeros:
            parameter.zero_()


def _check_independence(score: Score, queries: Tensor, states: Tensor) -> None:
    """Raise `UserError` if energies change without the other sentence, the other queries and the last two keys."""
    energy = score(queries, score.prepare(states))
    alone = torch.cat([score(query, score.prepare(states[:1, :-2])) for query in queries[:1].split(1, 1)], 1)
    largest = float(energy.nan_to_num(0, 0, 0).abs().max())
    if not torch.allclose(alone, energy[:1, :, :-2], rtol=1e-3, atol=1e-3 * largest):
        raise UserError(
            f"score: {type(score).__name__} gives a query and a key another energy if other queries, keys or sentences "
            "are in the batch. Compute each energy from its query, its key and the key's position alone, without a "
            "mean, norm or maximum over others"
        )
