"""The code in the pages runs. What docs/attention.md prints is what the page says."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch
from helpers.models import ROOT, SCORES
from hydra.utils import get_class
from omegaconf import OmegaConf
from torch.testing import assert_close

from heed.model import Attention
from heed.model.contract import check_score
from heed.model.dropout import Dropout
from heed.score import Bahdanau

PAGE = (ROOT / "docs" / "attention.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


def test_the_page_runs():
    blocks = list(BLOCK.finditer(PAGE))
    assert len(blocks) == PAGE.count("```python\n") > 10
    assert sum(block[2] is not None for block in blocks) == PAGE.count("```text\n") > 5
    names: dict = {}
    for block in blocks:
        line = PAGE[: block.start(1)].count("\n")
        with redirect_stdout(StringIO()) as printed:
            exec(compile("\n" * line + block[1], "docs/attention.md", "exec"), names)  # errors show the page's line
        assert printed.getvalue() == (block[2] or ""), f"docs/attention.md, line {line}"


def run_blocks(page: Path) -> dict:
    names: dict = {}
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        exec(block[1], names)
    return names


def test_the_way_to_a_prepared_corpus_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_blocks(ROOT / "docs" / "data.md")
    assert names["batch"].src.numel() > 0


def test_the_score_of_the_readme_is_the_shipped_one():
    names = run_blocks(ROOT / "README.md")
    shipped, shown = Bahdanau(5, 7, dim=11), names["Bahdanau"](5, 7, dim=11)
    shown.load_state_dict(shipped.state_dict())
    query, states = torch.randn(2, 3, 5), torch.randn(2, 13, 7)
    assert_close(shown(query, shown.prepare(states)), shipped(query, shipped.prepare(states)))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_score_and_the_wiring_of_scores_md_work(cell):
    names = run_blocks(ROOT / "docs" / "scores.md")
    score = names["Distance"](query_dim=11, key_dim=7)
    check_score(score)
    decoder = names["ContextFeeding"](Attention(score), 5, 11, Dropout(0.0), cell, 2)
    states, mask, embedded = torch.randn(2, 13, 7), torch.ones(2, 13, dtype=torch.bool), torch.randn(2, 3, 5)
    memory = decoder.attention.remember(states, mask)
    state = decoder.start(tuple(torch.randn(2, 1, size) for size in decoder.state_dims))
    readouts, alignment = decoder.unroll(embedded, state, memory)
    for t in range(3):  # searching gives the numbers of training
        readout, state, weights = decoder.step(embedded[:, t : t + 1], state, memory)
        assert_close((readout, weights), (readouts[:, t : t + 1], alignment[:, t : t + 1]))


@pytest.mark.parametrize("score", sorted({*SCORES, "concat"} - {"mine"}))
def test_every_shipped_score_is_explained(score):
    assert f"`score={score}`" in PAGE
    target = OmegaConf.load(ROOT / "configs" / "score" / f"{score}.yaml").get("_target_")
    if target:
        assert f"**{get_class(target).equation.partition(', n the')[0]}**" in PAGE
