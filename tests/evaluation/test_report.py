"""The files of an evaluation: the report, hypotheses, n-best lists, and what replaces an earlier evaluation."""

import json
import math
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.translations import corpus, translate
from hypothesis import given, settings
from hypothesis import strategies as st

from heed.alignment.links import Agreement
from heed.alignment.store import load_alignments
from heed.evaluation import report
from heed.evaluation.markdown import escape
from heed.evaluation.report import _examples, write_evaluation
from heed.files import atomic
from heed.files.checksums import read_json
from heed.files.locks import locked
from heed.page.sentences import load_sentences
from heed.search.translator import Translation
from heed.text.printable import printable

ATTACK = (
    "| a | <script>alert(1)</script> `x` **b** [l](http://e) ![i](j) $x$ &lt; \\ \x1b[31m \u202e ~~s~~ :dog:"
    " www.e.fr me@e.fr"
)


def evaluate(directory: Path, num_lines: int = 31, **changes) -> dict:
    hypotheses, references = corpus(num_lines)
    sources = [f"quelle {i} " + "x " * (i % 7) for i in range(num_lines)]
    sources[3] = ""
    options = {
        "sources": sources,
        "references": references,
        "translations": [[translate(*pair)] for pair in zip(hypotheses, sources, strict=True)],
        "bootstrap": 29,
        "seconds": 2.5,
        "perplexity": 7.25,
        "info": {"title": "grammar, test", "command": "make evaluate RUN=x\n", "search": {"beam": 5}},
    }
    return write_evaluation(directory, **(options | changes))


def test_the_report_holds_all_that_was_promised(tmp_path):
    metrics = evaluate(tmp_path / "run" / "eval" / "test-beam")
    directory = tmp_path / "run" / "eval" / "test-beam"
    assert sorted(path.name for path in directory.iterdir()) == [
        "alignments",
        "alignments.npz",
        "hypotheses.txt",
        "metrics.json",
        "page.html",
        "report.md",
        "sentences.jsonl",
    ]
    assert sorted(path.name for path in directory.parent.iterdir()) == [".lock", "test-beam"]

    def refuse(constant):
        raise AssertionError(constant)

    json.loads((directory / "metrics.json").read_text(encoding="utf-8"), parse_constant=refuse)
    written = read_json(directory / "metrics.json")
    assert written == metrics
    assert metrics["sentences_per_second"] == pytest.approx(31 / 2.5)
    assert metrics["info"]["search"] == {"beam": 5}

    sources, references, shown = load_sentences(directory / "sentences.jsonl")
    assert len(sources) == len(references) == len(shown) == 31
    assert [one.words[:-1] for one in shown if one.words] == [
        line.split() for line in (directory / "hypotheses.txt").read_text(encoding="utf-8").split("\n") if line
    ]

    text = (directory / "report.md").read_text(encoding="utf-8")
    assert "| perplexity for each piece | 7.25 | – | lower |" in text
    headings = re.findall("^#+ .*", text, flags=re.M)
    assert headings == [
        "# Evaluation: grammar, test",
        "## What was evaluated",
        "## Metrics",
        "## BLEU by source length",
        "## Speed and attention",
        "## Examples",
        "### Random",
        "### Best",
        "### Worst",
        "## How it was made",
    ]
    for key in ("bleu", "chrf", "ter"):
        one = metrics[key]
        assert f"| {one['value']:.2f} | {one['low']:.2f} to {one['high']:.2f} |" in text
        assert f"`{one['signature']}`" in text
    assert "\n    make evaluate RUN=x\n" in text
    assert "| search.beam | 5 |" in text
    links = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)
    assert len(links) == len(set(links)) == report.NUM_HEATMAPS
    for link in links:
        assert (directory / link).read_bytes().startswith(b"\x89PNG")
    assert len(list((directory / "alignments").iterdir())) == len(links)
    shown = re.findall(r"^\| line (\d+) \|", text, flags=re.M)
    assert len(shown) == len(set(shown)) == 3 * report.NUM_EXAMPLES


def test_agreement_with_gold_links_is_reported_where_there_are_any(tmp_path):
    agreements = {-1: Agreement(0.875, 0.25, 0.125), 0: Agreement(0.0625, 1.0, 0.5)}
    metrics = evaluate(tmp_path / "with", agreements=agreements)
    assert metrics["agreement_by_offset"]["+0"] == {"aer": 0.0625, "precision": 1.0, "recall": 0.5}
    text = (tmp_path / "with" / "report.md").read_text(encoding="utf-8")
    assert "| -1 | 87.5% | 25.0% | 12.5% |\n| +0 | 6.2% | 100.0% | 50.0% |" in text
    assert evaluate(tmp_path / "without")["agreement_by_offset"] == {}


def test_hypotheses_keep_one_line_per_line(tmp_path):
    texts = ["a\nb", "", "c\u2028d", "e\rf"]
    n_best = [[translate(text, "x y"), translate("second\tbest", "x y", -2)] for text in texts]
    evaluate(tmp_path / "e", sources=["x y"] * 4, references=["a b"] * 4, translations=n_best)
    data = (tmp_path / "e" / "hypotheses.txt").read_bytes()
    assert data.decode().split("\n") == ["a b", "", "c\u2028d", "e f", ""]
    rows = [row.split("\t") for row in (tmp_path / "e" / "n_best.tsv").read_bytes().decode().split("\n")]
    assert rows[0] == ["line", "rank", "log_prob", "text"] and rows[-1] == [""]
    assert rows[1:3] == [["1", "1", "-1.500000", "a b"], ["1", "2", "-2.000000", "second best"]]
    assert len(rows) == 1 + 4 * 2 + 1
    for stored in load_alignments(tmp_path / "e" / "alignments.npz"):
        np.testing.assert_allclose(stored.sum(1), 1, rtol=1e-6)


def test_entropy_of_the_corpus_counts_each_target_position_once(tmp_path):
    sharp = Translation("a", 0.0, ["a"], ["x", "</s>"], np.array([[1, 0]], np.float32))
    flat = Translation("a b", 0.0, ["a", "b", "</s>"], ["x", "</s>"], np.full((3, 2), 0.5, np.float32))
    metrics = evaluate(tmp_path / "e", sources=["x", "x"], references=["a", "b"], translations=[[sharp], [flat]])
    assert metrics["alignment_entropy"] == pytest.approx(3 / 4)
    assert metrics["tokens"] == 4


def test_without_attention_there_is_no_entropy(tmp_path):
    nowhere = Translation("a", 0.0, ["a", "</s>"], ["x", "</s>"], np.zeros((2, 2), np.float32))
    metrics = evaluate(tmp_path / "e", sources=["x"], references=["a"], translations=[[nowhere]])
    assert metrics["alignment_entropy"] is None
    report = (tmp_path / "e" / "report.md").read_text(encoding="utf-8")
    assert "| normalised alignment entropy (0 sharp, 1 flat) | – |" in report


def test_text_cannot_break_out_of_the_report(tmp_path):
    attacks = [ATTACK, "a\n\n# heading", "```", "--- | ---", "", "<img src=x onerror=alert(1)>"]
    evaluate(
        tmp_path / "e",
        sources=attacks,
        references=attacks[::-1],
        translations=[[translate(text, "x")] for text in attacks],
        info={"title": ATTACK, "command": ATTACK + "\n```\n# x", "k|<b>": {"deep": ATTACK}, "nan": math.nan},
    )
    text = (tmp_path / "e" / "report.md").read_text(encoding="utf-8")
    quoted = [line for line in text.split("\n") if line.startswith("    ")]
    assert len(quoted) == 3  # the command, as a code block
    rest = "\n".join(line for line in text.split("\n") if not line.startswith("    "))
    assert not re.search(r"[<>\\$~\x00-\x09\x0b-\x1f\u202e]|```|\*\*|http:|www\.|@", rest)
    assert re.findall("^# .*", rest, flags=re.M) == [rest.split("\n")[0]]
    tables = re.findall(r"(?:^\|.*\n)+", rest, flags=re.M)
    for table in tables:
        assert len({row.count("|") for row in table.strip().split("\n")}) == 1
    assert json.loads((tmp_path / "e" / "metrics.json").read_text(encoding="utf-8"))["info"]["nan"] == "NaN"


@given(st.text())
@settings(max_examples=100)
def test_escaped_text_is_one_harmless_cell_that_reads_the_same(text):
    import html

    cell = escape(text)
    assert not re.search(r"[\\`*\[\]<>|~$@\n\r]|\b_|_\b|__|:[^ ]|www\.", cell)
    assert html.unescape(cell) == printable(text.strip())


@pytest.mark.parametrize("num_lines", [1, 2, 7])
def test_small_corpora_have_a_report_too(tmp_path, num_lines):
    sources = ["x y z"] * num_lines
    n_best = [[translate("a b", "x y z")]] * num_lines
    evaluate(tmp_path / "e", sources=sources, references=["a b"] * num_lines, translations=n_best, info={})
    assert "### Best" in (tmp_path / "e" / "report.md").read_text(encoding="utf-8")


def test_an_evaluation_waits_for_the_one_that_is_being_written(tmp_path, caplog):
    with ThreadPoolExecutor() as pool:
        with locked(tmp_path / ".lock"):
            writing = pool.submit(evaluate, tmp_path / "e")
            while "waiting for" not in caplog.text:
                assert not writing.done()
                time.sleep(0.01)
            assert not (tmp_path / "e").exists()
        assert writing.result() and (tmp_path / "e" / "metrics.json").exists()


def test_missing_lines_are_an_error_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="2 source lines, 31 references and 31 translations"):
        evaluate(tmp_path / "e", sources=["a", "b"])
    assert list(tmp_path.iterdir()) == []


def test_a_new_evaluation_replaces_the_earlier_one_whole(tmp_path, monkeypatch):
    directory = tmp_path / "e"
    evaluate(directory, info={"title": "first"})
    (directory / "stray").touch()
    evaluate(directory, info={"title": "second"})
    assert not (directory / "stray").exists()
    assert "second" in (directory / "report.md").read_text(encoding="utf-8")

    def interrupt(*arguments):
        raise KeyboardInterrupt

    steps = [(report, "save_alignments"), (report, "save_png"), (report, "write_text"), (atomic, "flush")]
    for module, step in steps:  # stopped by the user, wherever
        with monkeypatch.context() as patch:
            patch.setattr(module, step, interrupt)
            with pytest.raises(KeyboardInterrupt):
                evaluate(directory, info={"title": "third"})
        assert sorted([path.name for path in tmp_path.iterdir()]) == [".lock", "e"]
        assert "second" in (directory / "report.md").read_text(encoding="utf-8")


def test_examples_are_the_best_and_the_worst():
    found = _examples([float(i) for i in range(20)], [3] * 20)
    assert found["Best"] == [19, 18, 17, 16, 15] and found["Worst"] == [0, 1, 2, 3, 4]
    few = _examples([1.0, 3.0, 2.0], [3] * 3)
    assert few == {"Best": [1, 2], "Worst": [0], "Random": []}


def test_examples_at_random_are_the_same_lines_for_two_systems():
    draw = random.Random(1)
    lengths = [draw.randint(3, 30) for _ in range(1000)]
    drawn = [set(_examples([draw.uniform(0, 100) for _ in lengths], lengths)["Random"]) for _ in range(9)]
    # But for those that are among a system's ten best and worst, one in a hundred.
    assert len(set.intersection(*drawn)) >= 3 and all(len(one) == 5 for one in drawn)
