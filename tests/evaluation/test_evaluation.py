import json
import math
import os
import random
import re
import statistics
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import CHRF

from heed import files
from heed.evaluation import heatmap, report
from heed.alignment.diagnostics import diagnostics, normalized_entropy
from heed.alignment.store import load_alignments, save_alignments
from heed.alignment.heatmap import alignment_figure, figure_image, save_png, terminal_heatmap
from heed.alignment.links import Agreement
from heed.evaluation.markdown import escape
from heed.evaluation.metrics import bleu, bleu_by_length, corpus_metrics, sentence_bleu
from heed.evaluation.report import _examples, write_evaluation
from heed.page.sentences import load_sentences
from heed.files.checksums import read_json
from heed.text.printable import printable

ATTACK = (
    "| a | <script>alert(1)</script> `x` **b** [l](http://e) ![i](j) $x$ &lt; \\ \x1b[31m \u202e ~~s~~ :dog:"
    " www.e.fr me@e.fr"
)
LABELS = ["▁مرحبا", "你好", "👍", "$x_1$", "a\nb", "\u202eevil", "e\u0301", "नमस्ते", " ", "", "x" * 61, "</s>"]


class Translation(NamedTuple):
    text: str
    log_prob: float
    pieces: list[str]
    src_pieces: list[str]
    alignment: np.ndarray


def soft(num_rows: int, num_columns: int, seed: int = 0) -> np.ndarray:
    weights = np.random.default_rng(seed).random((num_rows, num_columns)) ** 5
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def translate(text: str, source: str, log_prob: float = -1.5) -> Translation:
    if not source:
        return Translation("", 0.0, [], [], np.zeros((0, 0), np.float32))
    pieces, src_pieces = [*text.split(), "</s>"], [*source.split(), "</s>"]
    return Translation(text, log_prob, pieces, src_pieces, soft(len(pieces), len(src_pieces)))


def corpus(num_lines: int = 31) -> tuple[list[str], list[str]]:
    """Hypotheses and references of made-up words, with characters that a careless reader trips over."""
    draw = random.Random(7)
    words = [
        "Der",
        "der",
        "Hund",
        "läuft",
        "groß,",
        "isn't",
        "3.5",
        "&quot;",
        "a\u2028b",
        "c\x85d",
        "日本語",
        ".",
    ]
    references = [" ".join(draw.choices(words, k=draw.randint(3, 13))) for _ in range(num_lines)]
    hypotheses = [" ".join(w for w in line.split(" ") if draw.random() < 0.8) for line in references]
    hypotheses[3], hypotheses[5], references[7] = "", "  lead and trail \xa0", references[7] + "\u2003"
    return hypotheses, references


# --- metrics ---


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({}, []),
        ({"tokenize": "none"}, ["--tokenize", "none"]),
        (
            {"lowercase": True, "bootstrap": 211, "seed": 5},
            ["-lc", "--chrf-lowercase", "--confidence-n", "211"],
        ),
    ],
)
def test_numbers_are_those_of_the_sacrebleu_command_line(tmp_path, options, flags):
    hypotheses, references = corpus()
    for name, lines in (("hyp", hypotheses), ("ref", references)):
        (tmp_path / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")
    printed = subprocess.run(
        f"{sys.executable} -m sacrebleu ref -i hyp -m bleu chrf ter -w 11 --confidence -f json".split()
        + flags,
        cwd=tmp_path,
        env=os.environ | {"SACREBLEU_SEED": str(options.get("seed", 12345))},
        capture_output=True,
        check=True,
    )
    expected = {one["name"].lower().rstrip("2"): one for one in json.loads(printed.stdout)}
    scores = corpus_metrics(hypotheses, references, **options)
    assert set(expected) == set(scores) == {"bleu", "chrf", "ter"}
    for name, one in expected.items():
        found = scores[name]
        assert found["signature"] == one["signature"]
        assert f"{found['score']:.11f}" == f"{one['score']:.11f}"
        assert f"{(found['low'] + found['high']) / 2:.11f}" == f"{one['confidence_mean']:.11f}"
        assert f"{(found['high'] - found['low']) / 2:.11f}" == f"{one['confidence_var']:.11f}"
        assert found["low"] < found["high"]
    assert scores["bleu"]["hyp_len"] / scores["bleu"]["ref_len"] == pytest.approx(
        float(re.search(r"ratio = ([\d.]+)", expected["bleu"]["verbose_score"])[1]), abs=5e-4
    )


def test_bleu_is_papinenis_formula():
    hypothesis, reference = "a b c d e f x", "a b c d e f g h i"
    precisions = [6 / 7, 5 / 6, 4 / 5, 3 / 4]  # n-grams found of n-grams there
    brevity = math.exp(1 - 9 / 7)
    expected = 100 * brevity * math.prod(precisions) ** 0.25
    scores = corpus_metrics([hypothesis], [reference], bootstrap=0)["bleu"]
    assert scores["score"] == pytest.approx(expected)
    assert scores["brevity_penalty"] == pytest.approx(brevity)
    assert scores["precisions"] == pytest.approx([100 * precision for precision in precisions])
    assert (scores["hyp_len"], scores["ref_len"]) == (7, 9)
    assert (scores["low"], scores["high"]) == (None, None)
    assert bleu([hypothesis], [reference]) == scores["score"]


def test_quick_bleu_is_the_full_one_in_every_protocol():
    hypotheses, references = corpus()
    found = set()
    for options in ({}, {"tokenize": "none"}, {"lowercase": True}):
        full = corpus_metrics(hypotheses, references, bootstrap=0, **options)["bleu"]["score"]
        assert bleu(hypotheses, references, **options) == full
        found.add(full)
    assert len(found) == 3


def test_the_seed_is_used_and_the_environment_left_alone(monkeypatch):
    hypotheses, references = corpus()
    monkeypatch.setenv("SACREBLEU_SEED", "99")
    first, again, other = (corpus_metrics(hypotheses, references, bootstrap=53, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first["bleu"]["low"] != other["bleu"]["low"]
    assert os.environ["SACREBLEU_SEED"] == "99"
    monkeypatch.delenv("SACREBLEU_SEED")
    corpus_metrics(hypotheses, references, bootstrap=2)
    assert "SACREBLEU_SEED" not in os.environ


def test_nothing_right_is_zero_and_plain_json():
    scores = corpus_metrics(["", "x"], ["a b c", "d e"])
    assert scores["bleu"]["score"] == scores["bleu"]["low"] == scores["bleu"]["high"] == 0
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_resamples_without_a_match_have_an_interval_all_the_same():
    """sacrebleu alone ends in a TypeError here: chrF of some resamples is 0, TER of some has no reference."""
    hypotheses, references = ["a b", "c", "d"], ["a b", "x", ""]
    scores = corpus_metrics(hypotheses, references, bootstrap=101)
    assert scores["chrf"]["low"] < scores["chrf"]["high"] and "bs:101" in scores["chrf"]["signature"]
    assert scores["ter"]["low"] < scores["ter"]["high"]
    with pytest.raises(TypeError, match="coerce"):
        CHRF().corpus_score(hypotheses, [references], n_bootstrap=101)


def test_intervals_leave_nothing_that_cannot_be():
    """sacrebleu's, around the mean of the resamples, would go from -0.5 TER to 100.4 BLEU here."""
    references = [" ".join(random.Random(i).choices("abcdefgh", k=9)) for i in range(200)]
    scores = corpus_metrics(["a c", "b d", *references[2:]], references)
    assert scores["bleu"]["score"] < scores["bleu"]["high"] == scores["chrf"]["high"] == 100
    assert scores["ter"]["low"] == 0 < scores["ter"]["high"]
    assert corpus_metrics(["a b c d e f g"] * 9, ["x"] * 9)["ter"]["high"] > 100  # which TER alone can be


def test_sentence_bleu_of_a_short_right_sentence_is_100():
    assert sentence_bleu(["a b", "a b", ""], ["a b", "c d", "a"]) == pytest.approx([100, 0, 0])


def test_bleu_by_length_scores_each_bucket_alone():
    draw = random.Random(3)
    sources = [" ".join("x" * draw.randint(0, 13)) for _ in range(31)]
    hypotheses, references = corpus()
    rows = bleu_by_length(sources, hypotheses, references, edges=(3, 7, 11))
    bounds = {"0-3": (0, 3), "4-7": (4, 7), "8-11": (8, 11), "12+": (12, 99)}
    assert [row["length"] for row in rows] == list(bounds)
    assert sum(row["sentences"] for row in rows) == 31
    for row in rows:
        low, high = bounds[row["length"]]
        lines = [i for i, source in enumerate(sources) if low <= len(source.split()) <= high]
        assert row["sentences"] == len(lines)
        assert row["bleu"] == bleu([hypotheses[i] for i in lines], [references[i] for i in lines])
    assert [row["length"] for row in bleu_by_length(["a"], ["b"], ["b"])] == ["0-5"]


def test_what_cannot_be_scored_is_named():
    with pytest.raises(ValueError, match="2 hypotheses but 3 references"):
        corpus_metrics(["a", "b"], ["a", "b", "c"])
    with pytest.raises(ValueError, match="no sentences"):
        bleu([], [])
    with pytest.raises(ValueError, match=r"'13b'.*13a"):
        corpus_metrics(["a"], ["a"], tokenize="13b")


# --- alignment ---


def test_entropy_is_the_plain_loop_over_real_positions():
    torch.manual_seed(0)
    src_lengths, tgt_lengths = [7, 1, 5], [2, 11, 3]
    energy = 3 * torch.randn(3, 11, 7, dtype=torch.float64)
    src_mask = torch.arange(7) < torch.tensor(src_lengths)[:, None]
    tgt_mask = torch.arange(11) < torch.tensor(tgt_lengths)[:, None]
    alignment = energy.masked_fill(~src_mask[:, None], -torch.inf).softmax(-1)
    found = []
    for b, (num_src, num_tgt) in enumerate(zip(src_lengths, tgt_lengths, strict=True)):
        for t in range(num_tgt):
            weights = alignment[b, t, :num_src].tolist()
            entropy = -sum(weight * math.log(weight) for weight in weights if weight > 0)
            found.append(entropy / math.log(num_src) if num_src > 1 else 0.0)
    total, number = normalized_entropy(alignment, src_mask, tgt_mask)
    assert float(total) == pytest.approx(sum(found), abs=1e-12) and number == len(found)
    total, number = normalized_entropy(alignment[0, :2, :7])
    assert float(total) == pytest.approx(sum(found[:2]), abs=1e-12) and number == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_entropy_at_its_ends(dtype):
    assert normalized_entropy(torch.eye(5, dtype=dtype)[:3]) == (0, 3)
    assert normalized_entropy(torch.full((3, 8), 1 / 8, dtype=dtype)) == (pytest.approx(3), 3)
    assert normalized_entropy(torch.ones(3, 1, dtype=dtype)) == (0, 3)
    assert normalized_entropy(torch.zeros(0, 0, dtype=dtype)) == (0, 0)


def test_entropy_leaves_out_positions_that_look_nowhere():
    alignment = torch.tensor([[0.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0]])
    assert normalized_entropy(alignment) == (pytest.approx(3 / 2), 2)
    assert normalized_entropy(torch.zeros(3, 5)) == (0, 0)


def test_diagnostics_are_the_plain_loop_over_real_positions():
    random = torch.Generator().manual_seed(1)
    lengths, tgt_lengths = [5, 2, 1], [4, 7, 1]
    src_mask, tgt_mask = (
        torch.arange(n) < torch.tensor(x)[:, None] for n, x in ((5, lengths), (7, tgt_lengths))
    )
    energies = torch.randn(3, 7, 5, dtype=torch.float64, generator=random)
    alignment = energies.masked_fill(~src_mask[:, None], -torch.inf).softmax(-1)
    expected: dict[str, list[float]] = {
        name: [] for name in ("max_weight", "eos_mass", "monotonicity", "coverage", "energy_spread")
    }
    for b, (S, T) in enumerate(zip(lengths, tgt_lengths, strict=True)):
        rows = [alignment[b, t, :S].tolist() for t in range(T)]
        expected["max_weight"] += [max(row) for row in rows]
        expected["eos_mass"] += [row[-1] for row in rows[:-1]]
        best = [row.index(max(row)) for row in rows]
        expected["monotonicity"] += [float(after >= before) for before, after in pairwise(best)]
        expected["coverage"] += [min(1, sum(row[s] for row in rows)) for s in range(S)]
        if S > 1:
            expected["energy_spread"] += [statistics.pstdev(energies[b, t, :S].tolist()) for t in range(T)]
    found = diagnostics(alignment, src_mask, tgt_mask)
    assert {name: int(number) for name, (_, number) in found.items()} == {
        n: len(x) for n, x in expected.items()
    }
    for name, (total, _) in found.items():
        assert float(total) == pytest.approx(sum(expected[name]), rel=1e-12), name


def test_diagnostics_of_no_attention_are_numbers():
    masks = torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool)
    found = diagnostics(torch.zeros(2, 5, 3), *masks)
    assert found.keys() == {"max_weight", "eos_mass", "monotonicity", "coverage", "energy_spread"}
    assert all(total == 0 for total, _ in found.values()) and found["monotonicity"][1] == 0


def test_the_spread_of_energies_is_too_small_where_their_weights_are_below_float32():
    energies = torch.randn(1, 200, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    masks = torch.ones(1, 20, dtype=torch.bool), torch.ones(1, 200, dtype=torch.bool)
    true = float(energies.std(-1, correction=0).mean())
    for beta, least, most in ((5, 0.999, 1.001), (15, 0.99, 1), (40, 0.5, 0.8)):
        total, number = diagnostics((beta * energies).softmax(-1).float(), *masks)["energy_spread"]
        assert least < float(total / number) / (beta * true) < most


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=7))
@settings(max_examples=25)
def test_alignments_come_back_as_stored(tmp_path_factory, shapes):
    path = tmp_path_factory.mktemp("store") / "alignments.npz"
    stored = [np.random.default_rng(i).random(shape, np.float32) for i, shape in enumerate(shapes)]
    save_alignments(path, stored)
    loaded = load_alignments(path)
    assert [one.shape for one in loaded] == shapes
    for one, other in zip(stored, loaded, strict=True):
        np.testing.assert_array_equal(one, other)


# --- heat maps ---


def test_source_is_across_and_target_is_down():
    alignment = np.zeros((3, 5), np.float32)
    alignment[2, 1] = 1
    figure = alignment_figure(list("abc"), list("vwxyz"), alignment)
    image, (axes,) = figure_image(figure), figure.axes
    assert image.dtype == np.uint8
    rows, columns = axes.texts[:3], axes.texts[3:]
    assert [label.get_text() for label in rows] == list("abc")
    assert [label.get_text() for label in columns] == list("vwxyz")
    for row in range(3):
        for column in range(5):
            x, y = axes.transData.transform((column, row))
            brightness = image[image.shape[0] - 1 - round(y), round(x)].mean()
            assert (brightness < 100) == ((row, column) == (2, 1))
    cells = axes.get_window_extent()
    assert min(label.get_window_extent().y0 for label in columns) > cells.y1
    assert max(label.get_window_extent().x1 for label in rows) < cells.x0
    for row, label in enumerate(rows):
        box = label.get_window_extent()
        assert box.y0 < axes.transData.transform((0, row))[1] < box.y1
    for column, label in enumerate(columns):
        start = label.get_window_extent().x0
        assert column - 0.5 < axes.transData.inverted().transform((start, 0))[0] < column + 0.5


@pytest.mark.parametrize("size", [0, 1, 12, 61, 233])
def test_pictures_are_bounded_uncut_and_without_warnings(size):
    labels = [LABELS[i % len(LABELS)] for i in range(size)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = figure_image(alignment_figure(labels, labels, soft(size, size).reshape(size, size)))
    height, width, _ = image.shape
    assert 50 < height < 2300 and 50 < width < 2300
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert (border == 255).all()


def test_labels_are_text_that_the_font_can_draw(monkeypatch):
    monkeypatch.setattr(heatmap, "_family", lambda one: heatmap.FONT if one < "\u3000" else None)
    figure = alignment_figure(LABELS[:5], LABELS[:5], soft(5, 5))
    labels = figure.axes[0].texts[:5]
    assert [one.get_text() for one in labels] == ["_مرحبا", r"\u4f60\u597d", r"\U0001f44d", "$x_1$", r"a\nb"]
    assert not any(one.get_parse_math() for one in labels)


def test_a_font_of_the_system_is_found_before_giving_up():
    assert heatmap._family("ä") == heatmap._family("م") == heatmap.FONT
    assert heatmap._family("\U0010fffd") is None


def test_pictures_leave_pyplot_alone():
    code = (
        "import sys, numpy; from heed.evaluation import heatmap; assert 'matplotlib' not in sys.modules;"
        "heatmap.figure_image(heatmap.alignment_figure(['a'], ['b'], numpy.ones((1, 1))));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_picture_that_fails_leaves_the_earlier_one(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    figure = alignment_figure(["a"], ["b"], np.ones((1, 1)))
    save_png(figure, path)
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG")

    def full(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        save_png(alignment_figure(["c"], ["d"], np.zeros((1, 1))), path)
    assert path.read_bytes() == before


def test_the_terminal_shows_each_weight_in_its_place():
    alignment = np.array([[0.01, 0.1, 0.3, 0.59, 0.0], [0.9, 0.1, 0.0, 0.0, 0.0]], np.float32)
    drawn = terminal_heatmap(["yes", "我"], ["a", "bc", "d", "e", "f"], alignment, width=80)
    assert drawn.split("\n") == [
        "      b",
        "    a c d e f",
        "yes · ░░▒▒▓▓·",
        " 我 ██░░· · ·",
    ]
    assert terminal_heatmap([], [], np.zeros((0, 0)), width=80) == ""


def test_a_narrow_terminal_gets_panels_and_no_commands():
    alignment = soft(12, 12)
    drawn = terminal_heatmap(LABELS, LABELS, alignment, width=30)
    assert all(heatmap._columns(line) <= 30 for line in drawn.split("\n"))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", drawn)
    panels = drawn.split("\n\n")
    assert len(panels) == math.ceil(12 / ((30 - 20 - 1) // 2))
    rows = [
        "".join(re.sub("[^·░▒▓█]", "", panel.split("\n")[-12 + t]) for panel in panels) for t in range(12)
    ]
    for row, weights in zip(rows, alignment, strict=True):
        shades = re.findall("·|░░|▒▒|▓▓|██", row)
        assert [" ·░▒▓█".index(shade[0]) - 1 for shade in shades] == [
            sum(weight >= edge for edge in heatmap.SHADE_EDGES) for weight in weights
        ]


# --- report ---


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
    scores = evaluate(tmp_path / "run" / "eval" / "test-beam")
    directory = tmp_path / "run" / "eval" / "test-beam"
    assert sorted(path.name for path in directory.iterdir()) == [
        "alignments",
        "alignments.npz",
        "hypotheses.txt",
        "page.html",
        "report.md",
        "scores.json",
        "sentences.jsonl",
    ]
    assert sorted(path.name for path in directory.parent.iterdir()) == [".lock", "test-beam"]

    def refuse(constant):
        raise AssertionError(constant)

    json.loads((directory / "scores.json").read_text(encoding="utf-8"), parse_constant=refuse)
    written = read_json(directory / "scores.json")
    assert written == scores
    assert scores["sentences_per_second"] == pytest.approx(31 / 2.5)
    assert scores["info"]["search"] == {"beam": 5}

    sources, references, shown = load_sentences(directory / "sentences.jsonl")
    assert len(sources) == len(references) == len(shown) == 31
    assert [one.words[:-1] for one in shown if one.words] == [
        line.split()
        for line in (directory / "hypotheses.txt").read_text(encoding="utf-8").split("\n")
        if line
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
        one = scores[key]
        assert f"| {one['score']:.2f} | {one['low']:.2f} to {one['high']:.2f} |" in text
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
    scores = evaluate(tmp_path / "with", agreements=agreements)
    assert scores["agreement_by_offset"]["+0"] == {"aer": 0.0625, "precision": 1.0, "recall": 0.5}
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
    scores = evaluate(
        tmp_path / "e", sources=["x", "x"], references=["a", "b"], translations=[[sharp], [flat]]
    )
    assert scores["alignment_entropy"] == pytest.approx(3 / 4)
    assert scores["tokens"] == 4


def test_without_attention_there_is_no_entropy(tmp_path):
    nowhere = Translation("a", 0.0, ["a", "</s>"], ["x", "</s>"], np.zeros((2, 2), np.float32))
    scores = evaluate(tmp_path / "e", sources=["x"], references=["a"], translations=[[nowhere]])
    assert scores["alignment_entropy"] is None
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
    assert json.loads((tmp_path / "e" / "scores.json").read_text(encoding="utf-8"))["info"]["nan"] == "NaN"


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
        with files.locked(tmp_path / ".lock"):
            writing = pool.submit(evaluate, tmp_path / "e")
            while "waiting for" not in caplog.text:
                assert not writing.done()
                time.sleep(0.01)
            assert not (tmp_path / "e").exists()
        assert writing.result() and (tmp_path / "e" / "scores.json").exists()


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

    steps = [(report, "save_alignments"), (report, "save_png"), (report, "write_text"), (files, "flush")]
    for module, step in steps:  # stopped by the user, wherever
        with monkeypatch.context() as patch:
            patch.setattr(module, step, interrupt)
            with pytest.raises(KeyboardInterrupt):
                evaluate(directory, info={"title": "third"})
        assert sorted([path.name for path in tmp_path.iterdir()]) == [".lock", "e"]
        assert "second" in (directory / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("renames", "left"), [(0, "old"), (1, "old"), (2, "new")])
def test_killed_in_the_swap_one_directory_is_left_whole(tmp_path, renames, left):
    directory = tmp_path / "e"
    directory.mkdir()
    (directory / "report.md").write_text("old")
    child = os.fork()
    if child == 0:  # dies like one killed: no `finally` runs
        done = 0
        rename = Path.rename

        def counted(*arguments):
            nonlocal done
            if done == renames:
                os._exit(9)
            done += 1
            return rename(*arguments)

        with files.replacing(directory) as new:
            (new / "report.md").write_text("new")
            Path.rename = counted
            files.shutil.rmtree = lambda *arguments, **options: os._exit(9)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with pytest.raises(KeyboardInterrupt), files.replacing(directory):  # what the next one does first
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
    assert (directory / "report.md").read_text() == left


@pytest.mark.parametrize(("tokenize", "warned"), [("13a", True), ("none", False)])
def test_of_tokenised_text_it_is_no_warning_that_it_is(tokenize, warned, caplog):
    corpus_metrics(["a b ."] * 100, ["a c ."] * 100, tokenize=tokenize, bootstrap=0)
    assert ("tokenized period" in caplog.text) == warned


def test_colours_are_the_same_in_all_pictures():
    (image,) = alignment_figure(["a"], ["b", "c"], np.array([[0.2, 0.1]])).axes[0].images
    assert image.get_clim() == (0, 1)


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
