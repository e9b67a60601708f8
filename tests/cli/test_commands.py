"""The scripts as a user runs them, and what they say to bad input."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.errors import HydraException
from helpers.runs import ROOT, command, config, overrides, script, write_corpus

from heed import cli, fast
from heed.run.loading import load_run
from heed.evaluation.evaluate import directory_of
from heed.cli.train import train
from heed.config.schema import EvaluateConfig, MetricSettings
from heed.alignment.store import load_alignments
from heed.alignment.forced_decoding import force_decode, perplexity_of
from heed.cli.interactive import arriving, one_line
from heed.run.directory import Run
from heed.run.identity import default_path
from heed.files.checksums import PLACEHOLDER, read_json, write_json, write_checksummed
from heed.search.settings import SearchSettings
from heed.search.translator import Translation, Translator
from heed.run.checkpoints import save_weights


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A trained run."""
    directory = tmp_path_factory.mktemp("commands")
    done = script("train", *overrides(directory), f"run={directory / 'run'}")
    assert done.returncode == 0, done.stderr
    assert "BLEU" in done.stdout and "|tok:13a|" in done.stdout
    assert f"report: {directory / 'run' / 'eval' / 'test-beam' / 'report.md'}" in done.stdout
    yield directory / "run"


def test_run_directory_is_laid_out_as_documented(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == [
        ".lock",
        "checkpoints",
        "config.yaml",
        "corpus.json",
        "eval",
        "metrics.jsonl",
        "tensorboard",
        "tokenizer.model",
        "training.json",
    ]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "best.safetensors",
        "last.safetensors",
        "previous.safetensors",
    ]
    scores = json.loads((run / "eval" / "test-beam" / "scores.json").read_text())
    assert {"score", "signature", "low", "high"} <= scores["bleu"].keys()
    assert len(load_alignments(run / "eval" / "test-beam" / "alignments.npz")) == 5


def test_a_second_run_starts_at_once(run: Path) -> None:
    before = (run / "checkpoints" / "last.safetensors").stat().st_mtime_ns
    done = script("train", *overrides(run.parent), f"run={run}")
    assert done.returncode == 0, done.stderr
    assert "BLEU" in done.stdout
    assert (run / "checkpoints" / "last.safetensors").stat().st_mtime_ns == before, (
        "nothing was trained again"
    )


def test_evaluate_any_split_and_search(run: Path) -> None:
    done = script("evaluate", f"run={run}", "split=val", "search=greedy", "metrics.bootstrap=0")
    assert done.returncode == 0, done.stderr
    hypotheses = (run / "eval" / "val-greedy" / "hypotheses.txt").read_bytes()
    assert hypotheses.count(b"\n") == 7
    assert (run / "eval" / "val-greedy" / "report.md").exists()
    # Options may stand before overrides. What is given of the search is in the name: it replaces no other evaluation.
    done = script(
        *("evaluate", "--config-dir", "examples/custom_score/configs", f"run={run}", "split=val"),
        *("search=greedy", "search.alpha=0.5", "metrics.bootstrap=0"),
    )
    assert done.returncode == 0, done.stderr
    assert (run / "eval" / "val-greedy-search.alpha_0.5" / "hypotheses.txt").read_bytes() == hypotheses
    with pytest.raises(ValueError, match="there is no split 'dev': the corpus has train, val, test"):
        command("evaluate", f"run={run}", "split=dev")


def test_search_is_that_of_the_run_and_what_is_given_goes_before_it(run: Path) -> None:
    other = run.parent / "other"
    searched = ("search.width=3", "search.alpha=0")
    command("train", *overrides(run.parent), f"run={other}", "training.max_epochs=1", *searched)

    def search(runs: object, *arguments: str) -> dict[str, Any]:
        return command("evaluate", f"run={runs}", "metrics.bootstrap=0", *arguments)[1]["info"]["search"]

    assert search(run) == asdict(SearchSettings())
    assert search(other) == asdict(SearchSettings(width=3, alpha=0.0))
    assert search(other, "search.alpha=0.7") == asdict(SearchSettings(width=3, alpha=0.7))
    assert search(f"[{other},{run}]") == asdict(SearchSettings(width=3, alpha=0.0))
    kept = (other / "eval" / "test-beam" / "scores.json").read_bytes()
    directory, _ = command("evaluate", f"run={other}", "metrics.bootstrap=0", "search.width=5")
    assert directory.name == "test-beam-search.width_5"
    assert (other / "eval" / "test-beam" / "scores.json").read_bytes() == kept
    named = EvaluateConfig(
        str(other), "best", "test", asdict(SearchSettings(alpha=0.7)), MetricSettings("none", None, 7), "cpu"
    )
    for given in ("trained-search.alpha_0.7", "beam-search.alpha_0.7", "beam"):  # one search, one name
        directory = directory_of(named, "test", given, Run(other).config())
        assert directory.name == "test-beam-search.width_5-search.alpha_0.7-metrics.tokenize_none"
    assert directory_of(named, "test", "greedy", Run(other).config()).name == "test-greedy"
    with pytest.raises(ValueError, match="with different searches: name one for all, such as search=beam"):
        command("compare", f"runs=[{run},{other}]")

    def n_best(*arguments: str) -> str:
        done = script("translate", f"run={other}", "scores=true", *arguments, input="ene mene muh\n")
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert n_best("search.n_best=3") == n_best("search=beam", "search.n_best=3", *searched)
    assert n_best("search=greedy").count("\t") == 1


def test_a_run_that_was_evaluated_on_validation_is_so_by_default(run: Path) -> None:
    other = run.parent / "on-val"
    command("train", *overrides(run.parent), f"run={other}", "training.max_epochs=1", "test_split=val")
    directory, _ = command("evaluate", f"run={other}", "metrics.bootstrap=0")
    assert directory == other / "eval" / "val-beam"


def test_translating_without_standard_input_is_told(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError, match="standard input is closed"):
        command("translate", f"run={run}")


def test_ensemble_of_a_run_with_itself_is_the_run(run: Path) -> None:
    command("evaluate", f"run=[{run},{run}]", "metrics.bootstrap=0")
    command("evaluate", f"run={run}", "metrics.bootstrap=0")
    (ensemble,) = run.glob("eval/test-beam-ensemble2-*/hypotheses.txt")
    assert ensemble.read_text() == (run / "eval" / "test-beam" / "hypotheses.txt").read_text()


def test_ensembles_of_one_first_run_stand_side_by_side_and_name_their_scores(run: Path) -> None:
    made = set()
    for name, score in (("second", "bahdanau"), ("third", "dot")):
        shutil.copytree(run, run.parent / name)
        text = (run.parent / name / "config.yaml").read_text().replace("score: bahdanau", f"score: {score}")
        write_checksummed(run.parent / name / "config.yaml", re.sub("[0-9a-f]{64}", PLACEHOLDER, text, count=1))
        directory, scores = command("evaluate", f"run=[{run},{run.parent / name}]", "metrics.bootstrap=0")
        assert scores["info"]["trained"]["score"] == ("bahdanau" if score == "bahdanau" else "bahdanau, dot")
        assert len(scores["info"]["weights"]) == 2
        made.add(directory)
    assert len(made) == 2 and all((directory / "scores.json").exists() for directory in made)


def test_an_evaluation_of_other_weights_stands_beside_that_of_the_best(run: Path) -> None:
    command("evaluate", f"run={run}", "metrics.bootstrap=0")
    before = (run / "eval" / "test-beam" / "scores.json").read_bytes()
    command("evaluate", f"run={run}", "metrics.bootstrap=0", "checkpoint=last")
    assert (run / "eval" / "test-beam" / "scores.json").read_bytes() == before
    scores = json.loads((run / "eval" / "test-beam-last" / "scores.json").read_text())
    assert scores["info"]["checkpoint"] == "last"


def test_a_finished_run_is_evaluated_again_where_the_search_differs_and_only_there(run: Path) -> None:
    arguments = (*overrides(run.parent), f"run={run.parent / 'again'}", "training.max_epochs=1")
    scores = run.parent / "again" / "eval" / "test-beam" / "scores.json"
    command("train", *arguments)
    before = scores.stat().st_mtime_ns
    command("train", *arguments)
    assert scores.stat().st_mtime_ns == before
    command("train", *arguments, "search.width=2")
    assert json.loads(scores.read_text())["info"]["search"]["width"] == 2


def test_overrides_go_first_and_options_keep_their_values() -> None:
    given = ["--config-dir", "a=b", "seed=1", "--multirun", "score=dot"]
    assert cli.overrides_first(given) == ["seed=1", "score=dot", "--config-dir", "a=b", "--multirun"]


def test_a_reader_that_has_gone_is_told_in_a_line(run: Path) -> None:
    unread = f"{sys.executable} scripts/compare.py runs={run} out={run.parent / 'unread'} | true"
    command = ["bash", "-c", unread + "; echo ${PIPESTATUS[0]}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "2\n" and done.stderr == "error: whoever read the output has gone\n"


@pytest.mark.parametrize("damage", [{"files": ["x"]}, {"info": ["x"]}, {"info": None}])
def test_an_evaluation_of_another_shape_is_made_again(run: Path, damage: dict[str, Any], caplog) -> None:
    compared = (f"runs={run}", "search.width=3", f"out={run.parent / 'shapes'}")
    command("compare", *compared)
    (file,) = run.glob("eval/test-beam-search.width_3/scores.json")
    damaged = {key: value for key, value in (read_json(file) | damage).items() if value is not None}
    write_json(file, damaged)
    command("compare", *compared)
    assert "the evaluation is made again" in caplog.text and read_json(file)["info"]["search"]["width"] == 3


def test_an_evaluation_is_known_by_the_weights_it_was_made_with(run: Path, monkeypatch) -> None:
    copy = run.parent / "trained_on"
    shutil.copytree(run, copy)
    model, _, _ = load_run(copy, "best")
    best = copy / "checkpoints" / "best.safetensors"
    better = best.read_bytes()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.3)
    save_weights(best.parent, "best", model)
    translate = Translator.translate

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        """A training beside the evaluation finds better weights."""
        found = translate(*args, **kwargs)
        best.with_name("new").write_bytes(better)
        best.with_name("new").rename(best)
        return found

    monkeypatch.setattr(Translator, "translate", meanwhile)
    _, early = command("evaluate", f"run={copy}")
    monkeypatch.setattr(Translator, "translate", translate)
    command("compare", f"runs={copy}", f"out={run.parent / 'later'}")
    later = read_json(copy / "eval" / "test-beam" / "scores.json")
    first = read_json(run / "eval" / "test-beam" / "scores.json")
    assert later["info"]["weights"] == first["info"]["weights"] != early["info"]["weights"]
    assert later["perplexity"] == first["perplexity"] != early["perplexity"]


def test_an_evaluation_that_a_kill_left_under_its_other_name_is_found(run: Path) -> None:
    compared = (f"runs={run}", "search.width=4", f"out={run.parent / 'killed'}")
    command("compare", *compared)
    (directory,) = run.glob("eval/test-beam-search.width_4")
    before = (directory / "scores.json").stat().st_mtime_ns
    directory.rename(directory.with_name(f".{directory.name}.old"))
    command("compare", *compared)
    assert (directory / "scores.json").stat().st_mtime_ns == before


def test_a_comparison_measures_as_the_runs_were_trained_to(run: Path, monkeypatch) -> None:
    other = run.parent / "protocol"
    command(
        "train",
        *overrides(run.parent),
        f"run={other}",
        "training.max_epochs=1",
        "metrics.lowercase=true",
        "metrics.tokenize=none",
    )
    shutil.rmtree(other / "eval")
    seen = []
    monkeypatch.setattr(
        "heed.evaluation.significance.differences", lambda *_, **given: seen.append(given) or []
    )
    summary = command(
        "compare", f"runs={other}", f"out={run.parent / 'measured'}", "samples=100", "trials=101"
    )
    asked = {"tokenize": "none", "lowercase": True, "samples": 100, "trials": 101}
    assert {key: seen[0][key] for key in asked} == asked
    assert "|bs:20|" in summary["signatures"]["bleu"] and "|tok:none|" in summary["signatures"]["bleu"]


def test_runs_without_a_common_directory_need_a_name_for_the_report(run: Path, monkeypatch) -> None:
    monkeypatch.setattr("heed.commands.compare.name_systems", lambda _: ({}, os.path.relpath("/")))
    with pytest.raises(
        ValueError, match="no directory in common but /: name one for the report, as in out=compare"
    ):
        command("compare", f"runs={run}")


def test_seeds_that_were_trained_by_other_code_are_not_one_system(run: Path) -> None:
    for number in (1, 2):
        seed = run.parent / "coded" / f"seed{number}"
        shutil.copytree(run, seed)
        text = (seed / "config.yaml").read_text().replace("seed: 1\n", f"seed: {number}\n")
        write_checksummed(seed / "config.yaml", re.sub("[0-9a-f]{64}", PLACEHOLDER, text, count=1))
        Run(seed).add_record(code={"score": f"{number}" * 64})
    with pytest.raises(ValueError, match=r"differ in more than the seed, in code\.score: compare them apart"):
        command("compare", f"runs={run.parent}/coded/*")
    assert Run(run).record()["arithmetic"]["device"] == "cpu"


def test_who_looks_at_a_finished_run_did_not_train_it(run: Path) -> None:
    copy = shutil.copytree(run, run.parent / "elsewhere")
    gpu = {"device": "some GPU", "precision": "bf16"}
    Run(copy).add_record(arithmetic=gpu)
    train(Run(copy).config(), copy)
    assert Run(copy).record()["arithmetic"] == gpu


def test_a_search_without_a_limit_finds_its_evaluation_again(run: Path) -> None:
    unlimited = (f"runs={run}", "search.max_length_ratio=inf", f"out={run.parent / 'unlimited'}")
    times = []
    for _ in range(2):
        command("compare", *unlimited)
        (scores,) = run.glob("eval/test-beam-*ratio*/scores.json")
        times.append(scores.stat().st_mtime_ns)
    assert times[0] == times[1]


def test_the_search_has_no_part_in_the_perplexity_of_the_references(run: Path) -> None:
    found = [
        command("evaluate", f"run={run}", "metrics.bootstrap=0", *more)[1]["perplexity"]
        for more in ([], ["search.max_source_length=3"])
    ]
    assert found[0] == found[1]


def test_references_that_no_translation_can_reach_are_told(run: Path, caplog) -> None:
    asked = f"run={run}", "metrics.bootstrap=0"
    command("evaluate", *asked, "search.max_length_ratio=inf")
    assert "references have more pieces" not in caplog.text
    command("evaluate", *asked, "search.max_length_ratio=0", "search.max_length_offset=1")
    assert "5 of 5 references have more pieces than a translation may" in caplog.text


def test_a_comparison_tells_of_other_training_text(run: Path) -> None:
    shutil.copytree(run.parent / "corpus", run.parent / "others")
    with (
        open(run.parent / "others" / "train.de", "a") as de,
        open(run.parent / "others" / "train.en", "a") as en,
    ):
        print("du", file=de)
        print("DU", file=en)
    other = run.parent / "of_others"
    command("train", *overrides(run.parent), f"data.source={run.parent / 'others'}", f"run={other}", "seed=2")
    about = command(
        "compare", f"runs=[{run},{other}]", f"out={run.parent / 'apart'}"
    )  # two systems by their names
    assert about["notes"][0].startswith("the systems differ beyond their scores, in corpus:")
    assert list(about["fairness"]["configurations"]) == ["corpus"]
    for path, number in ((run, 1), (other, 2)):
        shutil.copytree(path, run.parent / "pooled" / f"seed{number}")
    with pytest.raises(ValueError, match="differ in more than the seed, in corpus: compare them apart"):
        command("compare", f"runs={run.parent}/pooled/*")


def test_a_pattern_may_be_one_name_with_spaces(run: Path) -> None:
    (run.parent / "my run").symlink_to(run)
    out = run.parent / "spaced"
    assert command("compare", f"runs={run.parent}/my run", f"out={out}")["systems"].keys() == {"my run"}


def test_an_ensemble_is_evaluated_on_what_was_held_out_from_each(run: Path) -> None:
    other = run.parent / "trained_on_the_test"
    shutil.copytree(run, other)
    about = read_json(other / "corpus.json")
    about["files"]["test.src.txt"] = "0" * 64
    write_json(other / "corpus.json", about)
    with pytest.raises(
        ValueError, match=r"test is not what was held out when .*trained_on_the_test was trained"
    ):
        command("evaluate", f"run=[{run},{other}]")


@pytest.mark.parametrize("where", ["[a,b]", "{a: 1}"])
def test_a_run_is_one_directory(tmp_path: Path, where: str) -> None:
    told = script("train", *overrides(tmp_path), f"run={where}")
    assert told.returncode == 2 and "name one directory" in told.stderr


def test_a_run_that_cannot_be_there_is_told(tmp_path: Path) -> None:
    told = script("train", *overrides(tmp_path), "run=/dev/null/run")
    assert told.returncode == 2 and "error: /dev/null/run/.lock cannot be written" in told.stderr


def test_other_weights_are_evaluated_and_the_references_perplexity_is_theirs(run: Path) -> None:
    other = run.parent / "untrained"
    shutil.copytree(run, other)
    model, _, _ = load_run(run, "best")
    torch.nn.init.zeros_(model.output.weight)
    torch.nn.init.zeros_(model.output.bias)
    save_weights(other / "checkpoints", "best", model)
    lines = [
        (run.parent / "corpus" / f"test.{side}").read_text(encoding="utf-8").split("\n")[:-1]
        for side in ("de", "en")
    ]
    for name in ("best", "last"):
        _, scores = command("evaluate", f"run={other}", "metrics.bootstrap=0", f"checkpoint={name}")
        model, tokenizers, _ = load_run(other, name)
        expected = perplexity_of(force_decode([model], tokenizers, *lines))
        assert scores["perplexity"] == pytest.approx(expected, rel=1e-2)
        if name == "best":  # as many choices as there are pieces
            assert expected == pytest.approx(model.output.weight.size(0), rel=1e-3)
    assert expected < 0.99 * model.output.weight.size(0)


def test_an_ensemble_needs_one_vocabulary(run: Path) -> None:
    other = run.parent / "characters"
    kept = [one for one in overrides(run.parent) if not one.startswith("tokenizer")]
    done = script("train", *kept, "tokenizer=char", f"run={other}", "training.max_epochs=1")
    assert done.returncode == 0, done.stderr
    with pytest.raises(ValueError, match="different tokenizers: an ensemble needs one vocabulary"):
        command("translate", f"run=[{run},{other}]")


def test_translate_gives_a_line_for_each_line(run: Path) -> None:
    lines = [
        "ene mene",
        "",
        "   ",
        "völlig unbekannt\u2028immer noch dieselbe Zeile",
        "raus\r",
        "x" * 3000,
        "und du",
    ]
    done = script("translate", f"run={run}", "buffer=3", input="\n".join(lines))
    assert done.returncode == 0, done.stderr
    translations = done.stdout.split("\n")
    assert len(translations) == len(lines) + 1 and translations[-1] == ""
    assert translations[1] == translations[2] == ""
    one_by_one = script("translate", f"run={run}", "buffer=1", input="\n".join(lines))
    assert one_by_one.stdout == done.stdout


def test_translate_n_best_with_scores(run: Path) -> None:
    done = script("translate", f"run={run}", "scores=true", "search.n_best=3", input="ene mene\n")
    cells = done.stdout.rstrip("\n").split("\t")
    assert len(cells) == 6
    log_probs = [float(cell) for cell in cells[::2]]
    assert all(log_prob <= 0 for log_prob in log_probs)


def test_translate_ends_quietly_when_its_reader_does(run: Path) -> None:
    command = f"yes 'ene mene' | {sys.executable} scripts/translate.py run={run} buffer=2 | head -n 3"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.count("\n") == 3
    assert "Traceback" not in done.stderr and "Error" not in done.stderr


def test_translate_says_that_there_is_no_room_for_what_it_writes(run: Path) -> None:
    with open("/dev/full", "w") as full:
        pipes: dict[str, Any] = {"stdout": full, "stderr": subprocess.PIPE}
        command = [sys.executable, "scripts/translate.py", f"run={run}"]
        done = subprocess.run(command, cwd=ROOT, input="ene\n" * 3, text=True, timeout=60, **pipes)
    assert done.returncode == 2
    assert (
        done.stderr.startswith("error: standard output cannot be written (") and done.stderr.count("\n") == 1
    )


@pytest.mark.usefixtures("heard_signals")
def test_translate_ends_at_once_while_it_waits_for_a_line(run: Path) -> None:
    """Its reader is gone, or Ctrl-C: the thread that waits for the next line is not to hold it up, or kill it."""
    command = [sys.executable, "scripts/translate.py", f"run={run}"]
    for ends, status in (("reader", 0), ("ctrl-c", 130)):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with subprocess.Popen(command, cwd=ROOT, **pipes) as process:  # type: ignore[call-overload]
            process.stdin.write(b"ene mene\n")
            process.stdin.flush()
            assert process.stdout.readline()
            if ends == "reader":
                process.stdout.close()
                process.stdin.write(b"muh\n")
                process.stdin.flush()
            else:
                process.send_signal(signal.SIGINT)
            assert process.wait(20) == status, ends
            assert process.stderr.read() == (b"interrupted\n" if status else b"")
            process.stdin.close()


def test_scores_end_quietly_when_their_reader_does() -> None:
    command = f"{sys.executable} scripts/scores.py | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "0\n" and done.stderr == ""


def without_torch(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a script and sees to it that torch was not imported."""
    program = (
        f"import sys, runpy; sys.argv = {list(command)}\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "scripts").glob("*.py")))
def test_help_does_not_load_torch(name: str) -> None:
    shown = without_torch(f"scripts/{name}.py", "--help").stdout
    assert "help" in shown
    if name == "train":
        assert (
            "score: bahdanau, concat, content, dot, general, last, none, random, scaled_dot, uniform" in shown
        )


def test_mistakes_are_told_and_corpora_prepared_without_torch(run: Path, tmp_path: Path) -> None:
    arguments = [key for key in overrides(tmp_path) if not key.startswith("tokenizer")]
    without_torch("scripts/prepare.py", *arguments)
    assert "error: training.clip_norm" in without_torch("scripts/train.py", "training.clip_norm=-1").stderr
    for name in ("translate", "evaluate"):
        told = without_torch(f"scripts/{name}.py", "search.n_best=9", f"run={run}").stderr
        assert "error: search.n_best=9 is more than search.width=5" in told
    assert "error: there is no split 'dev'" in without_torch("scripts/train.py", "test_split=dev").stderr


def test_prepare_takes_what_train_takes(tmp_path: Path) -> None:
    arguments = [key for key in overrides(tmp_path) if not key.startswith("tokenizer")]  # left: sentencepiece
    done = script("prepare", *arguments)
    assert done.returncode == 0, done.stderr
    assert "train 60, val 7, test 5" in done.stdout
    wrong = script("prepare", *arguments, "+nonsense=1")
    assert wrong.returncode == 2 and "nonsense" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score=nonsense"], "Available options in 'score':\n\tbahdanau\n\tconcat\n\tcontent"),
        (["training.learing_rate=1"], "learing_rate"),
        (["+training.learing_rate=1"], "learing_rate"),
        (["training.max_epochs=many"], "training.max_epochs"),
        (["model.cell=rnn"], "model.cell is 'rnn': choose one of gru, lstm"),
        (["+score.heads=8"], "score has no key heads: Bahdanau takes dim"),
        (["score.dim=wide"], "score.dim"),
        (["score._target_=collections.OrderedDict"], "must be a subclass of Score"),
        (["score._target_=nowhere.Mine"], "score._target_ is 'nowhere.Mine', which cannot be imported"),
        (
            ["score=dot", "model.decoder_dim=12"],
            "the query (decoder state) has size 12 and the key (encoder state) has size 10",
        ),
        (["data.source=/nowhere"], "/nowhere"),
        (["data=files", "data.source=null"], "data.source"),
        (["device=tpu"], "device is 'tpu'"),
        (["test_split=dev"], "there is no split 'dev'"),
        (["tokenizer.joint=false"], "model.tie=three"),
        (["training.subword_sampling=0.1"], "needs a tokenizer that can cut a text in more than one way"),
        (["training.precision=fp8"], "training.precision is 'fp8': choose one of auto, fp32, bf16"),
        (["seed=-1"], "seed is -1"),
        (["training.weight_decay=-0.1"], "training.weight_decay is -0.1: it must be at least 0"),
        (["score.dim=0"], "score.dim is 0: it must be at least 1"),
        (["+training.lr=1"], "training.lr: Key 'lr' not in 'TrainingSettings'; it has max_epochs, max_steps"),
        (["device=meta"], "device is 'meta'"),
        (["device=xpu"], "device is 'xpu'"),
        (
            ["metrics.bootstrap=null", "metrics.tokenize=null"],
            "give a value for metrics.tokenize, metrics.bootstrap",
        ),
        (
            ["data.test=x"],
            "data.test: it takes a list. Write one value in brackets too: data.test=[...]",
        ),
        (["training.betas=0.9"], "training.betas: it takes a list"),
        (["metrics.tokenize=ko-mecab"], "metrics.tokenize=ko-mecab: Korean tokenization requires extra"),
        (["+subwords.vocabsize=4000"], "vocabsize"),
        (["+names.data=mine"], "names: heed fills it"),
        (
            ["data.train=test"],
            "data.train=test, data.val=val, data.test=['test']: one file would be of two splits",
        ),
    ],
)
def test_bad_configuration_is_told_before_any_work(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises((ValueError, HydraException)) as error:
        train(config(tmp_path, *arguments), str(tmp_path / "run"))
    assert message in str(error.value)
    assert not (tmp_path / "run").exists() and not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score=nonsense"], "Available options in 'score':\n\tbahdanau\n\tconcat\n\tcontent"),
        (["score=dot", "model.decoder_dim=12"], "error: Dot multiplies query and key"),
        (["model.decoder_dim=100000000"], "error: out of memory: "),  # matrices of petabytes
        (["model.decoder_dim=10000000000"], "error: out of memory: "),  # more bytes than have an address
        (["fast=perhaps"], "fast is 'perhaps': it must be true or false"),
        (
            ["experiment=multi30k_quik"],
            "error: experiment=multi30k_quik: there is no such recipe; there are ",
        ),
        (
            ["score=[dot,general]"],
            "error: score=[dot,general]: one file of configs/score/ at a time; to compare",
        ),
    ],
)
def test_errors_are_told_without_a_traceback(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = script("train", *overrides(tmp_path), f"run={tmp_path / 'run'}", *arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_subwords_without_any_are_told(tmp_path: Path) -> None:
    given = [*overrides(tmp_path), f"run={tmp_path / 'run'}", "training.max_epochs=1"]
    done = script("train", *given, "subwords.vocab_size=4000")
    assert (
        done.returncode == 0 and "subwords.vocab_size=4000 does nothing: heed.text.Word has no" in done.stderr
    )


def test_a_run_of_others_that_may_not_be_written_can_be_compared(run: Path) -> None:
    """What is there already needs no lock."""
    out = run.parent / "elsewhere"
    command("compare", f"runs={run}", f"out={out}")
    lock = run / "eval" / ".lock"
    lock.unlink()
    lock.mkdir()  # cannot be opened, by root either
    try:
        command("compare", f"runs={run}", f"out={out}")
    finally:
        lock.rmdir()


def test_files_of_unequal_length(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    with open(tmp_path / "corpus" / "train.en", "a", encoding="utf-8") as file:
        file.write("one more\n")
    done = script("train", *overrides(tmp_path), f"run={tmp_path / 'run'}")
    assert done.returncode == 2
    assert "train.de" in done.stderr and "60" in done.stderr and "61" in done.stderr


def test_invalid_utf8_names_file_line_and_byte(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    path = tmp_path / "corpus" / "train.de"
    content = path.read_bytes()
    path.unlink()
    with gzip.open(tmp_path / "corpus" / "train.de.gz", "wb") as file:
        file.write(b"abc \xff def\n" + content[content.index(b"\n") + 1 :])
    done = script("train", *overrides(tmp_path), f"run={tmp_path / 'run'}")
    assert done.returncode == 2
    assert "train.de.gz" in done.stderr and "line 1" in done.stderr and "byte 4" in done.stderr


def test_a_run_goes_on_where_its_corpus_has_moved_to_and_logs_otherwise(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command("train", *overrides(tmp_path), f"run={run}", "training.max_epochs=1")
    scores = json.loads((run / "eval" / "test-beam" / "scores.json").read_text())
    (tmp_path / "corpus").rename(tmp_path / "moved")
    with pytest.raises(ValueError, match="corpus"):
        command("evaluate", f"run={run}")
    arguments = [
        argument.replace("/corpus", "/moved")
        for argument in overrides(tmp_path)
        if "log_every" not in argument
    ]
    command("train", *arguments, f"run={run}", "training.max_epochs=1", "training.log_every=2")
    assert command("evaluate", f"run={run}")[1]["bleu"] == scores["bleu"]


@pytest.mark.parametrize("more", [[], ["training.json"]])
def test_trained_weights_without_a_training_state_are_not_trained_over(
    run: Path, tmp_path: Path, more: list[str]
) -> None:
    copy = tmp_path / "copy"
    (copy / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "corpus.json", "tokenizer.model", "checkpoints/best.safetensors", *more):
        shutil.copyfile(run / name, copy / name)
    before = (copy / "checkpoints" / "best.safetensors").stat().st_mtime_ns
    with pytest.raises(ValueError, match=r"no training state to go on from: .* Copy its checkpoints/last"):
        command("train", *overrides(run.parent), f"run={copy}")
    assert (copy / "checkpoints" / "best.safetensors").stat().st_mtime_ns == before
    shutil.copyfile(*(one / "checkpoints" / "last.safetensors" for one in (run, copy)))
    command("train", *overrides(run.parent), f"run={copy}")
    assert (copy / "checkpoints" / "best.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl"])
def test_files_that_are_no_runs_are_not_trained_over(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / name).write_text("my: own\n")
    with pytest.raises(ValueError, match=rf"mine/{name} is not heed's, .* name another directory"):
        command("train", *overrides(tmp_path), f"run={mine}")
    assert [path.read_text() for path in mine.iterdir()] == ["my: own\n"]


def test_temporary_files_of_others_are_left(run: Path, tmp_path: Path) -> None:
    arguments = (*overrides(run.parent), f"run={tmp_path / 'run'}", "training.max_steps=1")
    (tmp_path / "run").mkdir()
    for name in ("notes.tmp", "corpus.json.tmp"):
        (tmp_path / "run" / name).touch()
    command("train", *arguments)
    assert [path.name for path in (tmp_path / "run").glob("*.tmp")] == ["notes.tmp"]


def test_others_may_read_what_they_may_read_of_other_files(run: Path) -> None:
    modes = {path.stat().st_mode for path in run.rglob("*") if path.is_file()}
    assert modes == {(run / "config.yaml").stat().st_mode}


def test_empty_and_long_training_lines_are_dropped_with_a_count_and_empty_test_lines_kept(
    tmp_path: Path,
) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    for name, lines in {
        "train.de": "\nene\n" + "mene " * 300 + "\n",
        "train.en": "MUH\n \n" + "MENE " * 300 + "\n",
        "test.de": "\n",
        "test.en": "MUH\n",
    }.items():
        with open(corpus / name, "a", encoding="utf-8") as file:
            file.write(lines)
    done = script("train", *overrides(tmp_path), f"run={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert "train: dropped 2 empty and 1 longer than 250 pieces, of 63 pairs" in done.stderr
    hypotheses = (tmp_path / "run" / "eval" / "test-beam" / "hypotheses.txt").read_text(encoding="utf-8")
    assert hypotheses.count("\n") == 6 and hypotheses.endswith("\n\n")


def test_a_run_of_data_that_have_changed_is_refused_and_kept(tmp_path: Path) -> None:
    arguments = [*overrides(tmp_path), f"run={tmp_path / 'run'}"]
    command("train", *arguments)
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("tokenizer*")}
    for side in ("de", "en"):
        with open(tmp_path / "corpus" / f"train.{side}", "a", encoding="utf-8") as file:
            file.write("neu\n")
    done = script("train", *arguments)
    assert done.returncode == 2
    assert "was trained on another corpus" in done.stderr and "corpus.json differs" in done.stderr
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").glob("tokenizer*")}
    command("evaluate", f"run={tmp_path / 'run'}")
    for side in ("de", "en"):
        with open(tmp_path / "corpus" / f"test.{side}", "a", encoding="utf-8") as file:
            file.write("neu\n")
    for name in ("evaluate", "align"):
        with pytest.raises(ValueError, match=f"test is not what was held out when {tmp_path / 'run'}"):
            command(name, f"run={tmp_path / 'run'}")
    command("evaluate", f"run={tmp_path / 'run'}", "split=val")


def test_translate_answers_before_the_input_ends(run: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "scripts/translate.py", f"run={run}"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin and process.stdout
    for line in ("ene mene", "", "muh"):
        process.stdin.write(line + "\n")
        process.stdin.flush()
        assert process.stdout.readline().endswith("\n")
    process.stdin.close()
    assert process.wait(timeout=60) == 0


def test_lines_are_given_as_they_arrive() -> None:
    def source(num: int, fails: bool = False) -> Iterator[str]:
        for line in range(num):
            yield str(line)
        if fails:
            raise ValueError("line 3")

    chunks = list(arriving(source(11), 4))
    assert [line for chunk in chunks for line in chunk] == [str(line) for line in range(11)]
    assert all(1 <= len(chunk) <= 4 for chunk in chunks)
    got = []
    with pytest.raises(ValueError, match="line 3"):
        for chunk in arriving(source(3, fails=True), 2):
            got += chunk
    assert got == ["0", "1", "2"], "what came before the bad line is not lost"


def test_an_override_of_what_is_learned_gets_its_own_directory() -> None:
    names = {"data": "grammar", "experiment": "grammar", "decoder": "luong", "score": "dot"}
    apart = [
        "search.width=3",
        "search=greedy",
        "fast=false",
        "run=null",
        "test_split=val",
        "training.compile=true",
    ]
    assert default_path(names, 2, ["score=dot", "seed=2", *apart]) == Path("runs/grammar/luong/dot/seed2")
    chars = default_path(names, 1, ["tokenizer=char", "subwords.vocab_size=500"])
    assert chars == Path("runs/grammar/luong-subwords.vocab_size_500-tokenizer_char/dot/seed1")
    own = default_path(names | {"experiment": "deep"}, 1, ["training.max_epochs=5", "model.cell=lstm"])
    assert own == Path("runs/grammar/deep-luong-model.cell_lstm-training.max_epochs_5/dot/seed1")
    pair = ["data.source=/some/where", "data.src=de", "data.tgt=fr", "training.log_every=7", "max_length=90"]
    other = default_path(names, 1, ["score=dot", "score._target_=mine.Dot"])
    assert other == Path("runs/grammar/luong-score._target__mine.Dot/dot/seed1")
    assert default_path(names, 1, pair) == Path(
        "runs/grammar/luong-data.src_de-data.tgt_fr-max_length_90/dot/seed1"
    )
    del names["experiment"]
    # As Hydra hands it to a job of many.
    swept = ["~score=null", "+score._target_=mine.Dot", "+score.power=2"]
    assert default_path(names, 1, swept) == default_path(names, 1, ["~score", *swept[1:]])
    assert default_path(names, 1, ["~score", "+score._target_=mine.Dot", "+score.power=2"]) == Path(
        "runs/grammar/default-luong-score.power_2/dot/seed1"
    )


def test_not_a_run_directory(tmp_path: Path) -> None:
    done = script("evaluate", f"run={tmp_path}")
    assert done.returncode == 2
    assert "is not a run directory: it has no config.yaml" in done.stderr


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
    run, arguments = tmp_path / "run", [*overrides(tmp_path), "training.save_every=1"]
    training = [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments, f"run={run}"]
    for stop in (signal.SIGKILL, signal.SIGTERM):  # neither leaves a lock behind
        first = subprocess.Popen([*training, "training.max_epochs=10000"], stdout=subprocess.DEVNULL)
        while f"process {first.pid} " not in ((run / ".lock").read_text() if run.exists() else ""):
            assert first.poll() is None
            time.sleep(0.1)
        before = (run / "config.yaml").read_bytes() if stop == signal.SIGTERM else None
        with pytest.raises(ValueError, match=f"{run} is being written by process {first.pid} on "):
            command("train", *arguments, f"run={run}", "training.max_epochs=10000", "device=cpu")
        assert before is None or (run / "config.yaml").read_bytes() == before
        first.send_signal(stop)
        first.wait(timeout=60)


def test_a_tab_within_a_translation_does_not_part_columns() -> None:
    best = [Translation("a\tb", -1.0, [], [], np.zeros((0, 0)))] * 2
    assert one_line(best, scores=True) == "-1.0000\ta b\t-1.0000\ta b"


def test_fast_reaches_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", "run=x", "fast=false"])
    monkeypatch.setattr(fast, "enabled", True)
    seen = []
    cli.script("evaluate")(lambda composed: seen.append(fast.enabled))()
    assert seen == [False]
