"""A whole training step: the fast versions together give what the reference versions give, in float64."""

import pytest
import torch
from helpers.models import SCORES, WIRINGS, padded
from helpers.steps import assert_same, step_model, training_step
from torch.testing import assert_close

from heed.ops import switch

CELLS = ["gru", "lstm"]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("score", SCORES)
def test_fast_and_reference_versions_agree(score, wiring, cell):
    model = step_model(score, wiring, cell, 0.0, torch.float64)
    found = training_step(model)
    with switch.reference():
        assert_same(found, training_step(model))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("score", SCORES)
@torch.no_grad()
def test_position_by_position_is_all_at_once(score, wiring, cell, fast, monkeypatch):
    """`step`, which search calls, against `unroll`, which trains."""
    monkeypatch.setattr(switch, "_enabled", fast)
    model = step_model(score, wiring, cell, 0.0, torch.float64).eval()
    src, lengths = padded([11, 4, 1], 17)
    tgt_in = torch.randint(4, 19, (3, 7))
    readouts, alignments = model(src, lengths, tgt_in)
    memory, state = model.encode(src, lengths)
    for t in range(7):
        logits, state, alignment = model.step(tgt_in[:, t : t + 1], state, memory)
        assert_close(logits, model.output(readouts[:, t : t + 1]), rtol=1e-10, atol=1e-12)
        assert_close(alignment, alignments[:, t : t + 1], rtol=1e-10, atol=1e-12)


def test_the_switch_returns_to_what_it_was():
    assert switch.enabled()
    with switch.reference():
        assert not switch.enabled()
    assert switch.enabled()
