"""The code in docs/attention.md runs, from top to bottom, and prints what the page says; that in docs/data.md runs."""

import re
from contextlib import redirect_stdout
from io import StringIO

import pytest
from hydra.utils import get_class
from helpers.models import ROOT, SCORES
from omegaconf import OmegaConf

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
            exec(
                compile("\n" * line + block[1], "docs/attention.md", "exec"), names
            )  # errors show the page's line
        assert printed.getvalue() == (block[2] or ""), f"docs/attention.md, line {line}"


def test_the_way_to_a_prepared_corpus_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = BLOCK.finditer((ROOT / "docs" / "data.md").read_text(encoding="utf-8"))
    names: dict = {}
    exec(block[1], names)
    assert names["batch"].src.numel() > 0


@pytest.mark.parametrize("score", sorted({*SCORES, "concat"} - {"mine"}))
def test_every_shipped_score_is_explained(score):
    assert f"`score={score}`" in PAGE
    target = OmegaConf.load(ROOT / "configs" / "score" / f"{score}.yaml").get("_target_")
    if target:
        assert f"**{get_class(target).equation.partition(', n the')[0]}**" in PAGE
