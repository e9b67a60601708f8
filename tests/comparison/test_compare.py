"""Comparison of runs: grouping, means, paired tests, what the reader is warned of, and many runs by one command."""

import html
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.runs import ROOT, command, config, overrides, script, write_corpus
from omegaconf import OmegaConf

from heed.cli import multirun
from heed.cli.multirun import jobs
from heed.cli.train import train
from heed.comparison import report as comparison_report
from heed.comparison.compare import common_sentences, short
from heed.comparison.report import _sentences, charts, tables
from heed.comparison.significance import Difference, Output, differences, holm
from heed.comparison.summary import (
    Evaluated,
    arithmetic_notes,
    identical,
    mean_and_sd,
    refuse_different_metrics,
    summarise,
    systems_of,
    warn,
)
from heed.files.locks import locked
from heed.page.page import Chart
from heed.page.sentences import Shown, save_sentences
from heed.run.directory import Run
from heed.run.identity import default_path

REFERENCES = [" ".join(random.Random(i).choices("abcdefgh", k=9)) for i in range(53)]


def noisy(rate: float, seed: int) -> list[str]:
    """The references with a share of the words wrong."""
    draw = random.Random(seed)
    return [" ".join("x" if draw.random() < rate else w for w in line.split()) for line in REFERENCES]


def evaluated(system: str, seed: int, dropout: float = 0.1, **record: object) -> Evaluated:
    """A run without files."""
    metrics = {key: {"value": 30.0, "signature": f"{key} 13a"} for key in ("bleu", "chrf", "ter")}
    config = {"score": {"_target_": system}, "model": {"dropout": dropout}}
    return Evaluated(Path(system, f"seed{seed}"), system, seed, config, dict(record), [], metrics, [], Path("unread"))


def test_holm_by_hand():
    # Holm's step-down: 4 × 0.005, 3 × 0.01, then 2 × 0.03, then max(0.06, 0.04)
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_mean_and_sample_sd():
    assert mean_and_sd([1.0, 2.0, 6.0]) == pytest.approx({"mean": 3.0, "sd": 7**0.5})
    assert mean_and_sd([5.0]) == {"mean": 5.0, "sd": None}
    assert mean_and_sd([5.0, None]) == mean_and_sd([]) == {"mean": None, "sd": None}


@pytest.mark.parametrize(("kind", "flag", "number"), [("bootstrap", "bs", 300), ("randomisation", "ar", 500)])
def test_p_values_are_those_of_the_sacrebleu_command_line(tmp_path, kind, flag, number):
    texts = {"a": noisy(0.2, 1), "b": noisy(0.24, 2), "ref": REFERENCES}
    for name, lines in texts.items():
        (tmp_path / name).write_text("".join(line + "\n" for line in lines))
    command = [sys.executable, "-m", "sacrebleu", "ref", "-i", "a", "b", "-m", "bleu", f"--paired-{flag}"]
    command += [{"bs": "--paired-bs-n", "ar": "--paired-ar-n"}[flag], str(number), "-f", "json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = json.loads(done.stdout)[1]["BLEU"]["p_value"]
    systems = {name: {1: Output(texts[name], 30.0)} for name in ("a", "b")}
    (found,) = differences(systems, REFERENCES, samples=300, trials=500)
    assert 0.001 < expected < 0.9
    assert getattr(found, kind) == pytest.approx(expected, abs=1e-4)


def test_seeds_do_not_count_as_sentences():
    """The same translations again, as further seeds, leave the p-values as they are."""
    texts = {"a": noisy(0.2, 1), "b": noisy(0.24, 2)}
    for_seeds = []
    for number in (1, 3):
        systems = {name: dict.fromkeys(range(number), Output(lines, 30.0)) for name, lines in texts.items()}
        for_seeds += differences(systems, REFERENCES, samples=300, trials=500)
    assert for_seeds[0].bootstrap == for_seeds[1].bootstrap
    assert for_seeds[0].randomisation == for_seeds[1].randomisation


def test_only_seeds_that_both_have_are_compared():
    systems = {
        "a": {1: Output(noisy(0.1, 1), 40.0), 2: Output(noisy(0.1, 2), 42.0)},
        "b": {2: Output(noisy(0.3, 3), 30.0), 3: Output(noisy(0.3, 4), 90.0)},
        "c": {9: Output(noisy(0.3, 5), 10.0)},
        "d": {2: Output(noisy(0.1, 2), 42.0)},
    }
    found = {one.systems: one for one in differences(systems, REFERENCES, samples=200, trials=200)}
    assert set(found) == {("a", "b"), ("a", "d"), ("b", "d")}
    assert found["a", "b"].seeds == [2] and found["a", "b"].bleu == pytest.approx(-12.0)
    assert found["a", "b"].bootstrap < 0.05 and found["a", "b"].randomisation < 0.05
    assert found["a", "d"].bootstrap == found["a", "d"].randomisation == 1.0  # the same translations


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_a_few_sentences_prove_nothing(number):
    """Two of the 2^n ways to exchange n translations are as extreme as the best: p is at least 2 / 2^n."""
    wrong = ["x y z"] * number
    for same in ([], REFERENCES[number:]):
        references = REFERENCES[:number] + same
        systems = {"a": {1: Output(references, 100.0)}, "b": {1: Output(wrong + same, 10.0)}}
        (found,) = differences(systems, references, samples=300, trials=500)
        assert min(found.bootstrap, found.randomisation) >= 2 / 2**number


def test_a_system_is_runs_that_differ_in_their_seed_alone():
    runs = systems_of([evaluated("b", 2), evaluated("a", 1), evaluated("b", 1)])
    assert {name: [run.seed for run in found] for name, found in runs.items()} == {"a": [1], "b": [1, 2]}
    with pytest.raises(ValueError, match="second run of a with seed 1"):
        systems_of([evaluated("a", 1), evaluated("a", 1)])
    with pytest.raises(ValueError, match=r"a/seed2 and a/seed1 differ in more than the seed, in model.dropout: "):
        systems_of([evaluated("a", 1), evaluated("a", 2, dropout=0.3)])


def test_names_are_short_and_different():
    assert short({"1": "quick-luong/dot", "2": "quick-bahdanau/dot"}) == {
        "1": "luong/dot",
        "2": "bahdanau/dot",
    }
    assert short({"1": "content", "2": "concat"}) == {"1": "content", "2": "concat"}
    assert short({"1": "a/dot"}) == {"1": "dot"}
    assert short({"1": "my-lstm", "2": "my-lstm"}) == {"1": "my-lstm", "2": "my-lstm"}
    rates = {n: f"grammar/luong-training.learning_rate_1e-{n}/dot" for n in "34"}
    assert short(rates) == {n: rates[n].removeprefix("grammar/luong-") for n in "34"}


def test_p_values_can_be_small_however_many_pairs():
    systems = {name: {1: Output(noisy(0.15 * i, i), 30.0)} for i, name in enumerate("abcdef")}
    found = differences(systems, REFERENCES)
    assert len(found) == 15 and min(one.bootstrap for one in found) == pytest.approx(15 / 1501, rel=0.01)


def test_other_metrics_are_refused():
    runs = [evaluated("a", 1), evaluated("b", 1)]
    refuse_different_metrics(runs)
    runs[1].metrics["bleu"]["signature"] = "bleu none"
    with pytest.raises(ValueError, match=r"BLEU of b/seed1 has the signature bleu none, but of a/seed1 bleu 13a"):
        refuse_different_metrics(runs)


def test_the_reader_is_warned():
    assert warn(systems_of([evaluated(name, seed) for name in "ab" for seed in (1, 2, 3)])) == []
    runs = [evaluated("a", seed) for seed in (1, 2, 3)] + [evaluated("b", seed, 0.2) for seed in (1, 3)]
    assert warn(systems_of(runs)) == [
        "the systems differ in more than the score: model.dropout (see the table below)",
        "too few seeds for a claim about a score: fewer than 3 of b",
        "b has no run of seed 2: tests are over common seeds",
    ]
    runs = [evaluated("a", 1), evaluated("b", 1), evaluated("b", 2), evaluated("c", 3)]
    assert warn(systems_of(runs)) == [
        "too few seeds for a claim about a score: fewer than 3 of a, b, c",
        "a and c have no seed in common, so their difference is not tested",
        "b and c have no seed in common, so their difference is not tested",
        "a has no run of seed 2, 3: tests are over common seeds",
        "b has no run of seed 3: tests are over common seeds",
        "c has no run of seed 1, 2: tests are over common seeds",
    ]


def computed(step: int = 0, **changes: object) -> dict[str, object]:
    """A part of a run in `training.json`."""
    part = {
        "device": "EPYC",
        "precision": "bf16",
        "compiled": False,
        "reference": False,
        "threads": 2,
        "torch": "2.13",
    }
    return {"step": step, **part, **changes}


def test_different_arithmetic_is_noted():
    same = [evaluated("a", 1, arithmetic=[computed(), computed(5, threads=1)]), evaluated("b", 1)]
    same.append(evaluated("b", 2, arithmetic=[computed(torch="2.14")]))
    assert arithmetic_notes(systems_of(same)) == []
    resumed = [computed(), computed(1200, device="Xeon", precision="fp32"), computed(1300, threads=1)]
    runs = [evaluated("a", seed, arithmetic=[computed()]) for seed in range(1, 5)]
    runs += [evaluated("b", 1, arithmetic=resumed), evaluated("c", 1, arithmetic=[computed(compiled=True)])]
    runs += [evaluated("d", 1, arithmetic=[computed(reference=True)])]
    assert arithmetic_notes(systems_of(runs)) == [
        "the arithmetic of b/seed1 changed: bf16 on EPYC, then fp32 on Xeon from step 1,200, then "
        "bf16 on EPYC from step 1,300",
        "the runs were not all computed in the same arithmetic. "
        "bf16 on EPYC: a/seed1, a/seed2, a/seed3 and 2 more; bf16 on EPYC, compiled: c/seed1; "
        "bf16 on EPYC, reference computations (fast=false): d/seed1; fp32 on Xeon: b/seed1",
    ]


def test_whether_runs_of_a_seed_began_alike():
    def began(*record: dict[str, Any]) -> bool | None:
        return identical(systems_of([evaluated(f"{n}", 1, **one) for n, one in enumerate(record)]), "batches")

    assert began({"batches": "x"}, {"batches": "x"}) is True
    assert began({"batches": "x"}, {"batches": "y"}) is False
    assert began({"batches": "x"}, {}) is None
    assert began({"batches": "x"}) is None
    others = [evaluated("a", 1, batches="x"), evaluated("a", 2, batches="y"), evaluated("b", 2, batches="y")]
    assert identical(systems_of(others), "batches") is True


def test_jobs_are_all_combinations_the_first_key_outermost():
    found = list(jobs(["seed=1,2", "decoder=luong", "score=dot,general", "+training.betas=[0.9,0.98]"]))
    assert [job[0] + " " + job[2] for job in found] == [
        "seed=1 score=dot",
        "seed=1 score=general",
        "seed=2 score=dot",
        "seed=2 score=general",
    ]
    assert all(job[1] == "decoder=luong" for job in found)


def test_a_directory_name_is_never_too_long():
    many = [f"model.option{i}=12345" for i in range(30)]
    paths = {default_path({"data": "d", "score": "dot"}, 1, many[:number]) for number in range(31)}
    assert len(paths) == 31 and max(len(part) for path in paths for part in path.parts) < 120


def sweep(directory: Path, *more: str) -> list[str]:
    """Arguments of a multirun in which `dot` cannot be built: its decoder has another size than its encoder."""
    return ["--multirun", "seed=1", "score=uniform,dot,bahdanau", *overrides(directory), *more]


def test_many_runs_by_one_command(tmp_path: Path) -> None:
    arguments = sweep(tmp_path, "model.decoder_dim=8", "training.max_epochs=1")
    done = script("train", *arguments, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "error: " in done.stderr and "# run 3: seed=1 score=bahdanau" in done.stdout
    (out,) = tmp_path.glob("runs/files/*/compare")
    assert sorted(path.name for path in out.iterdir() if path.name != ".lock") == [
        "compare.html",
        "compare.json",
        "compare.md",
        "curves.png",
    ]
    report = json.loads((out / "compare.json").read_text())
    assert list(report["systems"]) == ["bahdanau", "uniform"] and len(report["differences"]) == 1
    left_out, few = report["notes"]
    assert re.fullmatch(r"left out, since its training has not finished: runs/.*/dot/seed1", left_out)
    assert "too few seeds for a claim" in few
    assert report["fairness"] == {
        "same_batches": True,
        "same_initial_weights": True,
        "configurations": {
            "score._target_": {"bahdanau": "heed.score.Bahdanau", "uniform": "heed.score.Uniform"},
        },
    }
    one = report["systems"]["bahdanau"]
    assert one["score_parameters"] == 8 * 8 + 10 * 8 + 8 and one["peak_memory"]["mean"] > 1e8
    assert list(one["validation_bleu"]) == ["8"] and one["perplexity"]["mean"] > 1
    assert html.unescape((out / "compare.md").read_text()).strip() in done.stdout

    # The runs that are there, as they are; another evaluation of them is made.
    pattern = f"runs={tmp_path}/runs/files/*/*/*"
    command("compare", pattern, "samples=100", "trials=100", "split=val", "search.width=2", f"out={out}2")
    title = json.loads((tmp_path / f"{out}2" / "compare.json").read_text())["title"]
    assert re.fullmatch("bahdanau, uniform on val of files, beam-[0-9a-f]{6} search", title)
    (pair,) = {path.name for path in tmp_path.glob("runs/files/*/*/*/eval/val-*")}
    assert title.endswith(f"{pair.removeprefix('val-')} search")
    with pytest.raises(ValueError, match="no run directory is named by"):
        command("compare", f"runs={tmp_path}/absent/*")
    with pytest.raises(ValueError, match="runs names no run"):
        command("compare", "runs=[]")


def test_signals_are_handed_on_to_a_run_so_that_a_second_ctrl_c_stops_it(monkeypatch) -> None:
    sent = []

    class Process:
        returncode = 130
        send_signal = sent.append

        def communicate(self) -> tuple[None, None]:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
                signal.raise_signal(number)
            return None, None

    hydra = SimpleNamespace(job=SimpleNamespace(num=0), launcher=SimpleNamespace(_target_="basic"))
    monkeypatch.setattr(multirun.HydraConfig, "get", lambda: hydra)
    monkeypatch.setattr(multirun, "overrides", list)
    monkeypatch.setattr(multirun, "searchpath", list)
    monkeypatch.setattr(multirun.subprocess, "Popen", lambda *_, **__: Process())
    with pytest.raises(SystemExit, match="130"):
        multirun.train_in_subprocess()
    assert sent == [signal.SIGINT, signal.SIGINT]


def test_a_run_that_was_killed_is_told(monkeypatch, capsys) -> None:
    hydra = SimpleNamespace(job=SimpleNamespace(num=0), launcher=SimpleNamespace(_target_="basic"))
    monkeypatch.setattr(multirun.HydraConfig, "get", lambda: hydra)
    monkeypatch.setattr(multirun, "overrides", list)
    monkeypatch.setattr(multirun, "searchpath", list)
    killed, start = ["sh", "-c", "kill -9 $$"], subprocess.Popen
    monkeypatch.setattr(multirun.subprocess, "Popen", lambda _, **given: start(killed, **given))
    multirun.train_in_subprocess()
    assert capsys.readouterr().err == "error: this run was ended by SIGKILL: probably out of memory\n"


def test_what_a_yaml_sweeps_over_is_reported_on_too(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(multirun, "HydraConfig", SimpleNamespace(instance=lambda: SimpleNamespace(set_config=list)))
    monkeypatch.setattr(multirun, "requested_runs", lambda given: asked.extend(jobs(given)) or ({}, ["none"]))
    given = {"job": {"name": "train"}, "overrides": {"task": ["score=dot"]}}
    given["sweeper"] = {"params": {"seed": "1,2"}}
    with pytest.raises(SystemExit, match="2"):
        multirun.CompareRuns().on_multirun_end(OmegaConf.create({"hydra": given}))
    assert asked == [["seed=1", "score=dot"], ["seed=2", "score=dot"]]


def test_a_run_that_is_there_but_is_not_what_was_asked_for_is_no_part_of_the_report(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    run = Run(tmp_path / "run")
    asked = config(tmp_path)
    multirun.refuse_other(run, asked)  # not begun
    train(replace(asked, training=replace(asked.training, max_epochs=1)), run.path)
    asked = run.config()
    multirun.refuse_other(run, asked)
    with pytest.raises(ValueError, match=r"another configuration.*\n  seed: 1, 2"):
        multirun.refuse_other(run, replace(asked, seed=2))
    (tmp_path / "corpus" / "train.en").write_text("MUH\n" * 60)
    with pytest.raises(ValueError, match="was trained on another corpus: the data, or how heed prepares them, have"):
        multirun.refuse_other(run, asked)


def test_splits_of_one_corpus_are_not_compared_with_each_other(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    one = config(tmp_path)
    other = replace(one, test_split="val")
    names, pairs = common_sentences({"a": one, "b": one}, None)
    assert names == {"a": "test", "b": "test"} and len(pairs) == 5
    with pytest.raises(ValueError, match=r"b \(val\) and a \(test\) have different test sentences"):
        common_sentences({"a": one, "b": other}, None)
    assert common_sentences({"a": one, "b": other}, "val")[0] == {"a": "val", "b": "val"}


def test_beside_the_words_of_another_tokenizer_weights_are_not_shown(tmp_path: Path) -> None:
    shown = Shown(["gut"], np.array([[0.0, 1.0]], np.float32), 7.0)
    systems = {}
    for name, cut in {
        "words": ["not bad", "</s>"],
        "same": ["not bad", "</s>"],
        "letters": ["n", "ot bad"],
    }.items():
        one = tmp_path / f"{name}.jsonl"
        save_sentences(one, [["as it", "is"], cut], ["wie", "gut"], [shown, shown])
        systems[name] = [replace(evaluated(name, 1), sentences=one)]
    words, found = _sentences(systems)
    assert words == [["as it", "is"], ["not bad", "</s>"]]
    weights = {name: [one.weights.tolist() for one in own] for name, own in found.items()}
    both = [[[0, 1]]] * 2
    assert weights == {"words, seed 1": both, "same, seed 1": both, "letters, seed 1": [[[0, 1]], []]}


@pytest.mark.slow
def test_two_jobs_for_one_directory_are_told(tmp_path: Path) -> None:
    arguments = [*overrides(tmp_path), "training.max_epochs=1", f"run={tmp_path / 'run'}"]
    done = script("train", "--multirun", "seed=1,2", *arguments, cwd=tmp_path)
    assert done.returncode == 1 and "holds a run of another configuration" in done.stderr
    (note, _) = json.loads((tmp_path / "compare" / "compare.json").read_text())["notes"]
    assert note.startswith("left out, seed=2 ") and note.endswith("belongs to another job; give each job its own run=…")


@pytest.mark.slow
def test_interrupted_anywhere_it_ends_with_the_same_report(tmp_path: Path) -> None:
    reports = []
    arguments = ["seed=1,2", "score=dot,uniform", *overrides(tmp_path), "training.save_every=1"]
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "--multirun", *arguments]
    for name, waits in (("whole", []), ("broken", [6, 11, 4, 9, 14])):
        (tmp_path / name).mkdir()
        for wait in waits:
            started = subprocess.Popen(command, cwd=tmp_path / name, start_new_session=True, stdout=subprocess.DEVNULL)
            time.sleep(wait)
            os.killpg(started.pid, signal.SIGINT if wait % 2 else signal.SIGTERM)
            started.wait(timeout=120)  # with 0 if it was through already
        done = subprocess.run(command, cwd=tmp_path / name, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        (file,) = (tmp_path / name).glob("runs/files/*/compare/compare.json")
        report = json.loads(file.read_text())
        for one in report["systems"].values():
            for measured in ("training_tokens_per_second", "sentences_per_second", "peak_memory"):
                assert one.pop(measured)["mean"] > 0
        reports.append(report)
    assert reports[0] == reports[1]


@pytest.mark.slow
def test_different_test_sentences_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        arguments = [*overrides(tmp_path), "training.max_epochs=1", f"run={tmp_path / name / 'seed1'}"]
        if name == "two":
            lines = (tmp_path / "corpus" / "test.en").read_text().replace("MUH", "MEH")
            (tmp_path / "corpus2").mkdir()
            for file in (tmp_path / "corpus").iterdir():
                (tmp_path / "corpus2" / file.name).write_bytes(file.read_bytes())
            (tmp_path / "corpus2" / "test.en").write_text(lines)
            arguments.append(f"data.source={tmp_path / 'corpus2'}")
        assert script("train", *arguments).returncode == 0
    done = script("compare", f"runs={tmp_path}/*/seed1")
    assert done.returncode == 2 and "seed1 (test) have different test sentences: compare them apart" in done.stderr


def test_paired_tests_that_find_no_memory_say_what_to_lower(monkeypatch) -> None:
    def hungry(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 3.3 GiB")

    monkeypatch.setattr("heed.comparison.significance.randomise", hungry)
    with pytest.raises(
        ValueError,
        match=r"out of memory \(Unable.* 200 samples and 200 trials of 53 sentences. Lower samples and",
    ):
        paired(noisy(0.2, 1), noisy(0.3, 2))


def test_ctrl_c_in_the_report_of_many_runs_is_no_traceback(monkeypatch, capsys) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(multirun, "HydraConfig", SimpleNamespace(instance=interrupted))
    with pytest.raises(SystemExit, match="130"):
        multirun.CompareRuns().on_multirun_end(OmegaConf.create({"hydra": {"job": {"name": "train"}}}))
    assert capsys.readouterr().err == "interrupted\n"


def test_a_comparison_waits_for_the_one_that_is_being_written(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(comparison_report, "_sentences", lambda systems: ([], {}))
    monkeypatch.setattr(comparison_report, "tables", lambda summary: [])
    monkeypatch.setattr(comparison_report, "charts", lambda summary: [Chart("c", "x", "y", {"a": [(1.0, 2.0)]})] * 2)
    summary = {"title": "t", "notes": []}
    with ThreadPoolExecutor() as pool:
        with locked(tmp_path / ".lock"):
            writing = pool.submit(comparison_report.write_comparison, tmp_path, summary, {}, [])
            while "waiting for" not in caplog.text:
                assert not writing.done()
                time.sleep(0.01)
        writing.result()
    assert json.loads((tmp_path / "compare.json").read_text()) == summary


def test_the_legend_is_within_the_picture() -> None:
    for length in (5, 26, 30, 50, 100):
        lines = {letter * length: [(1.0, 2.0)] for letter in "abcde"}
        figure = comparison_report._figure(
            [Chart("c", "x", "y", lines), Chart("d", "x", "y", {name: [] for name in lines})]
        )
        figure.canvas.draw()
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert len(legend.texts) == 5 and box.x0 >= 0 and box.x1 <= figure.bbox.x1
        drawn, empty = figure.axes
        assert all(float(tick).is_integer() for tick in drawn.get_xticks()) and not drawn.texts
        assert [text.get_text() for text in empty.texts] == ["There are no points to draw."]


def paired(a: list[str], b: list[str], **protocol: object) -> Difference:
    systems = {"a": {1: Output(a, 0.0)}, "b": {1: Output(b, 0.0)}}
    (found,) = differences(systems, REFERENCES, samples=200, trials=200, **protocol)
    return found


def test_the_protocol_reaches_the_paired_tests() -> None:
    a, b = [line.upper() for line in REFERENCES], list(REFERENCES)
    a[0], b[1] = "x y z", "x y z"  # each has one sentence wrong, so that but for case they are as good
    assert paired(a, b).randomisation < 0.05
    assert paired(a, b, lowercase=True).randomisation > 0.2


def test_what_bleu_cannot_tell_apart_is_no_difference() -> None:
    spaced = [line.replace(" ", "  ") for line in REFERENCES]
    for found in (
        paired(spaced, REFERENCES),
        paired([line.upper() for line in REFERENCES], REFERENCES, lowercase=True),
    ):
        assert found.bootstrap == found.randomisation == 1


def test_tables_say_what_the_numbers_are() -> None:
    runs = []
    for system, seed, bleu in (("a", 1, 30.0), ("a", 2, 32.0), ("b", 1, 20.0), ("b", 2, 20.0)):
        run = evaluated(system, seed, batches=system)
        run.metrics = {
            **{key: {"value": bleu + n, "signature": key} for n, key in enumerate(("bleu", "chrf", "ter"))},
            **{"alignment_entropy": 0.5, "perplexity": None, "sentences_per_second": 3.0},
            "agreement_by_offset": {"+0": {"aer": 0.25}},
            "bleu_by_length": [
                {"length": "0-5", "sentences": 7, "bleu": bleu},
                {"length": "6-10", "sentences": 30, "bleu": bleu + 1},
            ],
        }
        run.logged = [{"step": 3, "val/bleu": bleu}]
        runs.append(run)
    summary = summarise("t", systems_of(runs), [Difference(("a", "b"), [1, 2], -11.0, 0.01, 1e-6)], [])
    quality, pairs, lengths, fairness, *_ = tables(summary)
    assert quality.rows[0] == [
        *("a", "1, 2", "31.00 ± 1.41", "32.00 ± 1.41", "33.00 ± 1.41", "–", "0.500 ± 0.000", "25.0 ± 0.0")
    ]
    assert pairs.rows == [["b against a", "-11.00", "0.0100", "<0.0001", "yes"]]
    level = summarise("t", systems_of(runs), [Difference(("a", "b"), [1, 2], -0.001, 0.4, 0.4)], [])
    assert tables(level)[1].rows == [["b against a", "+0.00", "0.4000", "0.4000", "no"]]
    assert lengths.head == ["words (sentences)", "0-5 (7)", "6-10 (30)"]
    assert lengths.rows[0] == ["a", "31.00", "32.00"] and summary["systems"]["a"]["validation_bleu"] == {3: 31.0}
    learning, by_length = charts(summary)
    assert learning.lines["a"] == [(3, 31)] and by_length.lines["a"] == [(6, 32)]  # seven sentences say nothing
    titles = [one.title for one in tables(summarise("t", systems_of(runs[:2]), [], []))]
    assert "Quality" in titles and "Differences in BLEU" not in titles  # there are none
    assert "first epoch were NOT IDENTICAL" in fairness.note
