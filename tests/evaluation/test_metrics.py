"""BLEU, chrF2 and TER: sacrebleu's numbers, their intervals, and BLEU by length."""

import json
import math
import os
import random
import re
import subprocess
import sys

import pytest
from helpers.translations import corpus
from sacrebleu.metrics import CHRF

from heed.evaluation.metrics import (
    bleu,
    bleu_by_length,
    bleu_of_statistics,
    bleu_statistics,
    corpus_metrics,
    sentence_bleu,
)


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
        f"{sys.executable} -m sacrebleu ref -i hyp -m bleu chrf ter -w 11 --confidence -f json".split() + flags,
        cwd=tmp_path,
        env=os.environ | {"SACREBLEU_SEED": str(options.get("seed", 12345))},
        capture_output=True,
        check=True,
    )
    expected = {one["name"].lower().rstrip("2"): one for one in json.loads(printed.stdout)}
    metrics = corpus_metrics(hypotheses, references, **options)
    assert set(expected) == set(metrics) == {"bleu", "chrf", "ter"}
    for name, one in expected.items():
        found = metrics[name]
        assert found["signature"] == one["signature"]
        assert f"{found['value']:.11f}" == f"{one['score']:.11f}"
        assert f"{(found['low'] + found['high']) / 2:.11f}" == f"{one['confidence_mean']:.11f}"
        assert f"{(found['high'] - found['low']) / 2:.11f}" == f"{one['confidence_var']:.11f}"
        assert found["low"] < found["high"]
    assert metrics["bleu"]["hyp_len"] / metrics["bleu"]["ref_len"] == pytest.approx(
        float(re.search(r"ratio = ([\d.]+)", expected["bleu"]["verbose_score"])[1]), abs=5e-4
    )


def test_bleu_is_papinenis_formula():
    hypothesis, reference = "a b c d e f x", "a b c d e f g h i"
    precisions = [6 / 7, 5 / 6, 4 / 5, 3 / 4]  # n-grams found of n-grams there
    brevity = math.exp(1 - 9 / 7)
    expected = 100 * brevity * math.prod(precisions) ** 0.25
    metrics = corpus_metrics([hypothesis], [reference], bootstrap=0)["bleu"]
    assert metrics["value"] == pytest.approx(expected)
    assert metrics["brevity_penalty"] == pytest.approx(brevity)
    assert metrics["precisions"] == pytest.approx([100 * precision for precision in precisions])
    assert (metrics["hyp_len"], metrics["ref_len"]) == (7, 9)
    assert (metrics["low"], metrics["high"]) == (None, None)
    assert bleu([hypothesis], [reference]) == metrics["value"]


def test_quick_bleu_is_the_full_one_in_every_protocol():
    hypotheses, references = corpus()
    found = set()
    for options in ({}, {"tokenize": "none"}, {"lowercase": True}):
        full = corpus_metrics(hypotheses, references, bootstrap=0, **options)["bleu"]["value"]
        assert bleu(hypotheses, references, **options) == full
        found.add(full)
    assert len(found) == 3


def test_statistics_of_sentences_sum_to_the_bleu_of_the_corpus():
    hypotheses, references = corpus()
    for options in ({}, {"tokenize": "none"}, {"lowercase": True}):
        statistics = bleu_statistics(hypotheses, references, **options)
        assert statistics.shape == (31, 10)
        assert bleu_of_statistics(statistics.sum(0)) == bleu(hypotheses, references, **options)
    assert bleu_of_statistics(bleu_statistics(["x"], ["y"])[0]) == 0


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
    metrics = corpus_metrics(["", "x"], ["a b c", "d e"])
    assert metrics["bleu"]["value"] == metrics["bleu"]["low"] == metrics["bleu"]["high"] == 0
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_resamples_without_a_match_have_an_interval_all_the_same():
    """sacrebleu alone ends in a TypeError here: chrF of some resamples is 0, TER of some has no reference."""
    hypotheses, references = ["a b", "c", "d"], ["a b", "x", ""]
    metrics = corpus_metrics(hypotheses, references, bootstrap=101)
    assert metrics["chrf"]["low"] < metrics["chrf"]["high"] and "bs:101" in metrics["chrf"]["signature"]
    assert metrics["ter"]["low"] < metrics["ter"]["high"]
    with pytest.raises(TypeError, match="coerce"):
        CHRF().corpus_score(hypotheses, [references], n_bootstrap=101)


def test_intervals_leave_nothing_that_cannot_be():
    """sacrebleu's, around the mean of the resamples, would go from -0.5 TER to 100.4 BLEU here."""
    references = [" ".join(random.Random(i).choices("abcdefgh", k=9)) for i in range(200)]
    metrics = corpus_metrics(["a c", "b d", *references[2:]], references)
    assert metrics["bleu"]["value"] < metrics["bleu"]["high"] == metrics["chrf"]["high"] == 100
    assert metrics["ter"]["low"] == 0 < metrics["ter"]["high"]
    assert corpus_metrics(["a b c d e f g"] * 9, ["x"] * 9)["ter"]["high"] > 100  # which TER alone can be


def test_sentence_bleu_of_a_short_right_sentence_is_100():
    assert sentence_bleu(["a b", "a b", ""], ["a b", "c d", "a"]) == pytest.approx([100, 0, 0])


def test_bleu_by_length_is_the_bleu_of_each_bucket_alone():
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


def test_what_cannot_be_evaluated_is_named():
    with pytest.raises(ValueError, match="2 hypotheses but 3 references"):
        corpus_metrics(["a", "b"], ["a", "b", "c"])
    with pytest.raises(ValueError, match="no sentences"):
        bleu([], [])
    with pytest.raises(ValueError, match=r"'13b'.*13a"):
        corpus_metrics(["a"], ["a"], tokenize="13b")


@pytest.mark.parametrize(("tokenize", "warned"), [("13a", True), ("none", False)])
def test_of_tokenised_text_it_is_no_warning_that_it_is(tokenize, warned, caplog):
    corpus_metrics(["a b ."] * 100, ["a c ."] * 100, tokenize=tokenize, bootstrap=0)
    assert ("tokenized period" in caplog.text) == warned
