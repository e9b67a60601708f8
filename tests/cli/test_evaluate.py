"""`evaluate` and `compare`: what they take from a run, and which evaluation they find again."""

import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import command, script

from heed.alignment.forced_decoding import force_decode, perplexity_of
from heed.config.schema import EvaluateConfig, MetricSettings
from heed.errors import UserError
from heed.evaluation.evaluate import directory_of
from heed.files.checksums import PLACEHOLDER, read_json, write_checksummed, write_json
from heed.run.checkpoints import save_weights
from heed.run.directory import Run
from heed.run.loading import load_run
from heed.search.settings import SearchSettings
from heed.search.translator import Translator


def edited(run: Path, copy: Path, old: str, new: str) -> Path:
    """Return a copy of a run with a text of its configuration replaced."""
    shutil.copytree(run, copy)
    text = (copy / "config.yaml").read_text().replace(old, new)
    write_checksummed(copy / "config.yaml", re.sub("[0-9a-f]{64}", PLACEHOLDER, text, count=1))
    return copy


# Evaluate


def test_any_split_and_search_are_evaluated(run: Path) -> None:
    _, metrics = command("evaluate", f"run={run}", "split=val", "search=greedy", "metrics.bootstrap=0", checked=True)
    hypotheses = (run / "eval" / "val-greedy" / "hypotheses.txt").read_bytes()
    assert hypotheses.count(b"\n") == 7 and metrics["info"]["search"]["width"] == 1
    assert (run / "eval" / "val-greedy" / "report.md").exists()
    # Options may be anywhere among the overrides.
    done = script(
        *("evaluate", "--config-dir", "examples/custom_score/configs", f"run={run}", "split=val"),
        *("search=greedy", "search.alpha=0.5", "metrics.bootstrap=0"),
    )
    assert done.returncode == 0, done.stderr
    (other,) = run.glob("eval/val-greedy-*/hypotheses.txt")  # it replaces no other evaluation
    assert re.fullmatch("val-greedy-[0-9a-f]{6}", other.parent.name) and other.read_bytes() == hypotheses
    assert f"report: {other.parent / 'report.md'}" in done.stdout
    with pytest.raises(UserError, match="there is no split 'dev': the corpus has train, val, test"):
        command("evaluate", f"run={run}", "split=dev")


def test_search_metrics_and_split_are_those_of_the_run_unless_given(run: Path, other: Path) -> None:
    def search(runs: object, *arguments: str) -> dict[str, Any]:
        return command("evaluate", f"run={runs}", "metrics.bootstrap=0", *arguments)[1]["info"]["search"]

    assert search(run) == asdict(SearchSettings())
    directory, metrics = command("evaluate", f"run={other}", "metrics.bootstrap=0")
    assert directory == other / "eval" / "val-beam"
    assert metrics["info"]["search"] == asdict(SearchSettings(width=3, alpha=0.0))
    assert "|tok:none|" in metrics["bleu"]["signature"] and "case:lc" in metrics["bleu"]["signature"]
    assert search(other, "search.alpha=0.7") == asdict(SearchSettings(width=3, alpha=0.7))
    assert search(f"[{other},{run}]", "split=val") == asdict(SearchSettings(width=3, alpha=0.0))


def test_an_evaluations_directory_names_the_search_and_a_digest_of_other_settings(other: Path) -> None:
    trained = Run(other).config()

    def name(search: str, overridden: bool, *settings: Any, **changed: Any) -> str:
        values = asdict(trained.search) | changed
        metrics = MetricSettings(*settings, None) if settings else MetricSettings(None, None, None)
        asked = EvaluateConfig(str(other), "best", "test", values, metrics, "cpu")
        return directory_of(asked, "test", search, overridden, trained).name

    assert name("trained", False) == "test-beam"
    assert name("beam", True) == "test-beam", "the same settings, however they were given"
    assert name("greedy", False, width=1) == "test-greedy"
    changed = [
        name("trained", True, alpha=0.7),
        name("trained", True, width=5),
        name("trained", True, "13a", None),
        name("trained", True, "none", False),
        name("greedy", True, width=1, alpha=0.7),
    ]
    assert all(re.fullmatch(r"test-(beam|greedy)-[0-9a-f]{6}", one) for one in changed)
    assert len(set(changed)) == len(changed)
    assert name("trained", True, alpha=0.7) == name("beam", True, alpha=0.7) == changed[0]


def test_an_ensemble_of_a_run_with_itself_is_the_run(run: Path) -> None:
    command("evaluate", f"run=[{run},{run}]", "metrics.bootstrap=0")
    (ensemble,) = run.glob("eval/test-beam-ensemble2-*/hypotheses.txt")
    assert ensemble.read_text() == (run / "eval" / "test-beam" / "hypotheses.txt").read_text()


def test_ensembles_with_the_same_first_run_have_own_directories_and_name_their_scores(run: Path) -> None:
    made = set()
    for name, score in (("second", "bahdanau"), ("third", "dot")):
        member = edited(run, run.parent / name, "score: bahdanau", f"score: {score}")
        directory, metrics = command("evaluate", f"run=[{run},{member}]", "metrics.bootstrap=0")
        expected = "bahdanau" if score == "bahdanau" else "bahdanau, dot"
        assert metrics["info"]["trained"]["score"] == expected
        assert len(metrics["info"]["weights"]) == 2
        made.add(directory)
    assert len(made) == 2 and all((directory / "metrics.json").exists() for directory in made)


def test_an_ensemble_is_evaluated_on_what_was_held_out_from_each(run: Path) -> None:
    other = run.parent / "trained_on_the_test"
    shutil.copytree(run, other)
    about = read_json(other / "corpus.json")
    about["files"]["test.src.txt"] = "0" * 64
    write_json(other / "corpus.json", about)
    with pytest.raises(UserError, match=r"test is not what was held out when .*trained_on_the_test was trained"):
        command("evaluate", f"run=[{run},{other}]")


def test_other_weights_are_evaluated_beside_the_best_and_the_perplexity_is_theirs(run: Path) -> None:
    before = (run / "eval" / "test-beam" / "metrics.json").read_bytes()
    other = run.parent / "untrained"
    shutil.copytree(run, other)
    model, _, _ = load_run(run, "best")
    torch.nn.init.zeros_(model.output.weight)
    torch.nn.init.zeros_(model.output.bias)
    save_weights(other / "checkpoints", "best", model)
    lines = [
        (run.parent / "corpus" / f"test.{side}").read_text(encoding="utf-8").split("\n")[:-1] for side in ("de", "en")
    ]
    for name in ("last", "best"):
        directory, metrics = command("evaluate", f"run={other}", "metrics.bootstrap=0", f"checkpoint={name}")
        assert metrics["info"]["checkpoint"] == name
        assert directory.name == ("test-beam" if name == "best" else "test-beam-last")
        model, tokenizers, _ = load_run(other, name)
        expected = perplexity_of(force_decode([model], tokenizers, *lines))
        assert metrics["perplexity"] == pytest.approx(expected, rel=1e-2)
        if name == "last":
            assert (other / "eval" / "test-beam" / "metrics.json").read_bytes() == before
            assert expected < 0.99 * model.output.weight.size(0)
        else:  # as many choices as there are pieces
            assert expected == pytest.approx(model.output.weight.size(0), rel=1e-3)


def test_the_search_does_not_change_the_perplexity_of_the_references(run: Path, caplog) -> None:
    """Nor the limits of the search, which are warned of if no translation can be as long as its reference."""
    asked = f"run={run}", "metrics.bootstrap=0"
    _, limited = command("evaluate", *asked, "search.max_source_length=3", "search.max_length_ratio=inf")
    assert "references have more pieces" not in caplog.text
    metrics = read_json(run / "eval" / "test-beam" / "metrics.json")
    assert limited["perplexity"] == metrics["perplexity"]
    command("evaluate", *asked, "search.max_length_ratio=0", "search.max_length_offset=1")
    assert "5 of 5 references have more pieces than a translation may" in caplog.text


# Compare, and find the evaluation of before


@pytest.mark.parametrize("damage", [{"files": ["x"]}, {"info": ["x"]}, {"info": None}])
def test_an_evaluation_of_another_shape_is_made_again(run: Path, damage: dict[str, Any], caplog) -> None:
    (run.parent / "damaged").mkdir(exist_ok=True)
    copy = run.parent / "damaged" / "-".join(damage) / "run"
    shutil.copytree(run, copy, dirs_exist_ok=True)
    file = copy / "eval" / "test-beam" / "metrics.json"
    damaged = {key: value for key, value in (read_json(file) | damage).items() if value is not None}
    write_json(file, damaged)
    command("compare", f"runs={copy}", f"out={run.parent / 'shapes'}", "trials=100", "samples=100")
    assert "The evaluation is made again" in caplog.text and read_json(file)["info"]["search"]["width"] == 5


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
        """Replace the weights, as a training beside the evaluation does when it finds better ones."""
        found = translate(*args, **kwargs)
        best.with_name("new").write_bytes(better)
        best.with_name("new").rename(best)
        return found

    monkeypatch.setattr(Translator, "translate", meanwhile)
    _, early = command("evaluate", f"run={copy}")
    monkeypatch.setattr(Translator, "translate", translate)
    command("compare", f"runs={copy}", f"out={run.parent / 'later'}")
    later = read_json(copy / "eval" / "test-beam" / "metrics.json")
    first = read_json(run / "eval" / "test-beam" / "metrics.json")
    assert later["info"]["weights"] == first["info"]["weights"] != early["info"]["weights"]
    assert later["perplexity"] == first["perplexity"] != early["perplexity"]


def test_an_evaluation_is_found_again(run: Path) -> None:
    """Without a limit, which JSON has no number for; and under the other name that a kill leaves it with."""
    compared = (f"runs={run}", "search.max_length_ratio=inf", f"out={run.parent / 'unlimited'}")
    before = set(run.glob("eval/test-beam-*"))
    command("compare", *compared)
    (directory,) = set(run.glob("eval/test-beam-*")) - before
    first = (directory / "metrics.json").stat().st_mtime_ns
    command("compare", *compared)
    assert (directory / "metrics.json").stat().st_mtime_ns == first
    directory.rename(directory.with_name(f".{directory.name}.old"))
    command("compare", *compared)
    assert (directory / "metrics.json").stat().st_mtime_ns == first


def test_a_comparison_measures_as_the_runs_were_trained_to(run: Path, other: Path, monkeypatch) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr("heed.comparison.compare.differences", lambda *_, **given: seen.append(given) or [])
    summary = command("compare", f"runs={other}", f"out={run.parent / 'measured'}", "samples=100", "trials=101")
    asked = {"tokenize": "none", "lowercase": True, "samples": 100, "trials": 101}
    assert {key: seen[0][key] for key in asked} == asked
    assert "|bs:20|" in summary["signatures"]["bleu"] and "|tok:none|" in summary["signatures"]["bleu"]
    with pytest.raises(UserError, match="with different searches: name one for all, such as search=beam"):
        command("compare", f"runs=[{run},{other}]")


def test_runs_without_a_common_directory_need_a_name_for_the_report(run: Path, monkeypatch) -> None:
    monkeypatch.setattr("heed.comparison.compare.name_systems", lambda _: ({}, os.path.relpath("/")))
    with pytest.raises(UserError, match=r"no directory in common but /: name one for the report, as in out=compare"):
        command("compare", f"runs={run}")


def test_seeds_that_were_trained_by_other_code_are_not_one_system(run: Path) -> None:
    for number in (1, 2):
        seed = edited(run, run.parent / "coded" / f"seed{number}", "seed: 1\n", f"seed: {number}\n")
        Run(seed).add_record(code={"score": f"{number}" * 64})
    with pytest.raises(UserError, match=r"differ in more than the seed, in code\.score: compare them apart"):
        command("compare", f"runs={run.parent}/coded/*")


def test_a_comparison_reports_other_training_text(run: Path) -> None:
    copy = edited(run, run.parent / "of_others", "seed: 1\n", "seed: 2\n")
    about = read_json(copy / "corpus.json")
    about["corpus"]["train"] = {"de": "0" * 64, "en": "0" * 64}
    write_json(copy / "corpus.json", about)
    summary = command(  # two systems by their names
        "compare", f"runs=[{run},{copy}]", f"out={run.parent / 'apart'}", "trials=100", "samples=100"
    )
    assert summary["notes"][0].startswith("the systems differ in more than the score: corpus ")
    assert list(summary["fairness"]["configurations"]) == ["corpus"]
    for path, number in ((run, 1), (copy, 2)):
        shutil.copytree(path, run.parent / "pooled" / f"seed{number}")
    with pytest.raises(UserError, match="differ in more than the seed, in corpus: compare them apart"):
        command("compare", f"runs={run.parent}/pooled/*")


def test_a_pattern_may_be_one_name_with_spaces_and_an_intact_evaluation_needs_no_lock(run: Path) -> None:
    """Runs of others, in which nothing may be written, can be compared."""
    (run.parent / "my run").symlink_to(run)
    out = run.parent / "spaced"
    lock = run / "eval" / ".lock"
    lock.unlink()
    lock.mkdir()  # cannot be opened, not even by root
    try:
        found = command("compare", f"runs={run.parent}/my run", f"out={out}", checked=True)
    finally:
        lock.rmdir()
    assert found["systems"].keys() == {"my run"}


def test_what_is_no_run_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a run directory: it has no config\.yaml"):
        command("evaluate", f"run={tmp_path}")
