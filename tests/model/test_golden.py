"""Twenty training steps per score give the losses in tests/model/golden/.

The files hold what this code gave when they were made; they show that a change of the code changed the numbers. Where a
change is meant, make them again, look at the difference, and commit it:

    HEED_WRITE_GOLDEN=1 python -m pytest tests/model/test_golden.py
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.models import SCORES, WIRINGS, make_model, padded

from heed.ops.cross_entropy import cross_entropy

GOLDEN = Path(__file__).parent / "golden"
STEPS, V = 20, 23


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def losses(score: str, wiring: str) -> list[float]:
    """Loss per token of each step, with label smoothing; no dropout, whose draws hang on how torch was built."""
    model = make_model(score, wiring, (V, V), tie="three").train()
    torch.manual_seed(1)
    batches = [(*padded([7, 2, 5], V), *padded([3, 1, 11], V)) for _ in range(5)]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    trace = []
    for step in range(STEPS):
        src, src_lengths, tgt, tgt_lengths = batches[step % len(batches)]
        real = torch.arange(tgt.size(1)) < tgt_lengths[:, None]
        tgt_in = tgt.roll(1, 1).index_fill(1, torch.tensor([0]), 2)
        readouts, _ = model(src, src_lengths, tgt_in)
        loss = cross_entropy(readouts[real], tgt[real], model.output, 0.1)[0] / real.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trace.append(loss.item())
    return trace


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("wiring", WIRINGS)
def test_losses(score, wiring):
    file = GOLDEN / f"{score}-{wiring}.txt"
    found = losses(score, wiring)
    assert found[-1] < found[0]
    if os.environ.get("HEED_WRITE_GOLDEN"):
        file.write_text("".join(f"{loss:.9f}\n" for loss in found), encoding="utf-8")
    expected = [float(line) for line in file.read_text(encoding="utf-8").split()]
    assert found == pytest.approx(expected, rel=1e-6)


def test_no_file_is_left_over():
    assert {file.stem for file in GOLDEN.glob("*.txt")} == {f"{s}-{w}" for s in SCORES for w in WIRINGS}
