"""Comparison of runs: grouping, means, paired tests, what the reader is warned of."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import overrides, script

from heed.evaluation.compare import Evaluated, differences, holm, mean_and_sd, systems_of, warn

REFERENCES = [" ".join(random.Random(i).choices("abcdefgh", k=9)) for i in range(53)]


def noisy(rate: float, seed: int) -> list[str]:
    """The references with a share of the words wrong."""
    draw = random.Random(seed)
    return [" ".join("x" if draw.random() < rate else w for w in line.split()) for line in REFERENCES]


def evaluated(system: str, seed: int, hypotheses: list[str], bleu: float = 30.0) -> Evaluated:
    scores = {key: {"score": bleu, "signature": f"{key} 13a"} for key in ("bleu", "chrf", "ter")}
    return Evaluated(Path(system, f"seed{seed}"), system, seed, scores, hypotheses)


def test_holm_by_hand():
    # Holm's step-down: 4 × 0.005, 3 × 0.01, then 2 × 0.03, then max(0.06, 0.04)
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_mean_and_sample_sd():
    assert mean_and_sd([1.0, 2.0, 6.0]) == pytest.approx((3.0, 7**0.5))
    assert mean_and_sd([5.0]) == (5.0, None)


@pytest.mark.parametrize(("kind", "flag", "number"), [("bootstrap", "bs", 300), ("randomisation", "ar", 500)])
def test_p_values_are_those_of_the_sacrebleu_command_line(tmp_path, kind, flag, number):
    texts = {"a": noisy(0.2, 1), "b": noisy(0.24, 2), "ref": REFERENCES}
    for name, lines in texts.items():
        (tmp_path / name).write_text("".join(line + "\n" for line in lines))
    option = {"bs": "--paired-bs-n", "ar": "--paired-ar-n"}[flag]
    command = [
        sys.executable,
        "-m",
        "sacrebleu",
        "ref",
        "-i",
        "a",
        "b",
        "-m",
        "bleu",
        f"--paired-{flag}",
        option,
    ]
    done = subprocess.run([*command, str(number), "-f", "json"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = json.loads(done.stdout)[1]["BLEU"]["p_value"]
    systems = {name: [evaluated(name, 1, texts[name])] for name in ("a", "b")}
    (found,) = differences(systems, REFERENCES, samples=300, trials=500)
    assert 0.001 < expected < 0.9
    assert getattr(found, kind) == pytest.approx(expected, abs=1e-4)


def test_only_seeds_that_both_have_are_compared():
    systems = systems_of(
        [
            evaluated("a", 1, noisy(0.1, 1), 40.0),
            evaluated("a", 2, noisy(0.1, 2), 42.0),
            evaluated("b", 2, noisy(0.3, 3), 30.0),
            evaluated("b", 3, noisy(0.3, 4), 90.0),
            evaluated("c", 9, noisy(0.3, 5), 10.0),
            evaluated("d", 2, noisy(0.1, 2), 42.0),
        ]
    )
    found = {one.systems: one for one in differences(systems, REFERENCES, samples=200, trials=200)}
    assert set(found) == {("a", "b"), ("a", "d"), ("b", "d")}
    assert found["a", "b"].seeds == [2] and found["a", "b"].bleu == pytest.approx(-12.0)
    assert found["a", "b"].bootstrap < 0.05 and found["a", "b"].randomisation < 0.05
    assert found["a", "d"].bootstrap == found["a", "d"].randomisation == 1.0  # the same translations


def test_a_seed_twice_is_refused():
    with pytest.raises(ValueError, match="second run of a with seed 1"):
        systems_of([evaluated("a", 1, []), evaluated("a", 1, [])])


def test_the_reader_is_warned():
    runs = {name: [evaluated(name, seed, []) for seed in (1, 2, 3)] for name in ("a", "b")}
    configs = {
        "a": {"score": {"_target_": "A"}, "model": {"dropout": 0.1}},
        "b": {"score": {"_target_": "B", "dim": 3}, "model": {"dropout": 0.1}},
    }
    assert warn(configs, runs) == []
    configs["b"]["model"] = {"dropout": 0.2}
    runs["b"].pop()
    runs["a"][0].scores["bleu"]["signature"] = "bleu none"
    assert warn(configs, runs) == [
        "b differs from a beyond its score, in model.dropout",
        "BLEU was measured in different ways: bleu 13a; bleu none",
        "too few seeds for a claim about a score: less than 3 of b",
    ]


def test_the_command_reports_on_runs_that_exist(tmp_path: Path) -> None:
    trained = [*overrides(tmp_path), "training.max_epochs=1"]
    for score in ("dot", "uniform"):
        run = tmp_path / "runs" / score / "seed1"
        assert script("train", *trained, f"score={score}", f"run={run}").returncode == 0
    out = f"out={tmp_path / 'out'}"
    done = script("compare", f"runs={tmp_path}/runs/*/*", out, "samples=100", "trials=100")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert list(found["systems"]) == ["dot", "uniform"] and len(found["differences"]) == 1
    assert "too few seeds for a claim" in found["warnings"][0] and len(found["warnings"]) == 1
    assert (tmp_path / "out" / "compare.md").read_text().strip() in done.stdout
    done = script("compare", f"runs={tmp_path}/runs/*/*", out, "split=val")
    assert done.returncode == 2 and "val-beam is not there yet: make evaluate RUN=" in done.stderr
    done = script("compare", f"runs={tmp_path}/absent/*", out)
    assert done.returncode == 2 and "no run directory is named by" in done.stderr
