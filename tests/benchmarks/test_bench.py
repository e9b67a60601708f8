"""`make bench` runs, at tiny sizes, and writes what it measured. The numbers themselves are nobody's promise."""

import json
import os
import subprocess
import sys

import pytest
from helpers.runs import ROOT, config

from benchmarks.__main__ import main
from heed.cli.prepare import prepare
from heed.run.directory import Run

# A process for itself, without the checker of shapes that the suite installs.
TINY = """
from benchmarks import training
from benchmarks.__main__ import main
training.PRODUCT = 64
sizes = ("embedding_dim=8", "encoder_dim=8", "decoder_dim=16", "encoder_layers=1")
main(plan=training.Plan(
    scores=("dot",), wirings=("bahdanau",), rounds=1, num_batches=2, batch_size=3,
    decoding=((1, 2), (3, 2)), energies=(2, 3, 5, 7), startup_rounds=1, prepare_sizes=(300, 600),
    overrides=("subwords.vocab_size=50", *(f"model.{size}" for size in sizes)),
))
"""


def bench(directory, part):
    out = directory / "bench.json"
    command = [sys.executable, "-c", TINY, f"--out={out}", f"--only={part}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text(encoding="utf-8"))[part], done.stdout


def test_decoding(tmp_path):
    found, printed = bench(tmp_path, "decoding")
    rows = found["searches"]
    assert {(row["width"], row["batch"]) for row in rows} == {(1, 1), (1, 3), (5, 1), (5, 3)}
    assert all(row["mean_length"] > 3 and row["ratio"]["min"] > 0 for row in rows)
    assert "untrained" in printed


@pytest.mark.slow
def test_training(tmp_path):
    found, _ = bench(tmp_path, "training")
    rows = found["models"]
    assert {(row["cell"], row["wiring"]) for row in rows} == {("gru", "bahdanau"), ("lstm", "luong")}
    assert all(row["share_of_peak"] > 0 and row["ratio"]["min"] > 0 for row in rows)
    assert all(row["memory"]["peak"] > row["memory"]["growth"] > 0 for row in rows)
    assert set(found["unfed"]) == {"dot"} and len(found["top_operators"]) == 12
    assert found["energies"]["sums_at_once"] == 4 * 2 * 3 * 5 * 7


@pytest.mark.slow
def test_startup_and_prepare(tmp_path):
    assert set(bench(tmp_path, "startup")[0]) == {"help", "first_step", "first_translation"}
    assert [one["pairs"] for one in bench(tmp_path, "prepare")[0]["sizes"]] == [300, 600]


def test_a_run_that_the_textbook_cannot_follow_is_refused(tmp_path, capsys):
    asked = config(tmp_path, "model.embedding_skip=true")
    Run(tmp_path / "run").claim(asked, prepare(asked).directory)
    with pytest.raises(SystemExit, match="2"):
        main(["--run", str(tmp_path / "run")])
    assert "has model.embedding_skip" in capsys.readouterr().err
