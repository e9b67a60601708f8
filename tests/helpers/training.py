"""Trainers of tiny runs, and a comparison of two runs bit for bit."""

import copy
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from heed.config.components import build_corpus, build_tokenizer_settings
from heed.config.schema import TrainConfig
from heed.data.prepare import prepare
from heed.files.checksums import read_json, verify_checksum, verify_digests
from heed.run.checkpoints import load_state
from heed.run.directory import Run
from heed.training.setup import build_trainer
from heed.training.trainer import Trainer
from helpers.runs import config

TIMED = ("train/tokens_per_second",)  # the only metric that depends on the clock


def make(directory: Path, name: str, *more: str) -> Trainer:
    """Return the trainer of a tiny run, at its last checkpoint."""
    return make_from(config(directory, *more), directory, name)


def make_from(settings: TrainConfig, directory: Path, name: str) -> Trainer:
    """Return the trainer of a run with these settings, at its last checkpoint."""
    prepared = prepare(
        build_corpus(settings.data), build_tokenizer_settings(settings.tokenizer), directory / "data", 50
    )
    run = Run(directory / name)
    run.claim(settings, prepared.directory)
    return build_trainer(settings, prepared, run)


def scripted(values: list[float], seen: list[torch.nn.Module] | None = None) -> Callable[[torch.nn.Module], Any]:
    """Return a validator that finds these values, one after the other, as BLEU and as loss. The last one repeats.

    It calls for no translation, so it takes no time. `seen` receives copies of the models that it is given.
    """
    given = iter(values)
    last = values[-1]

    def validator(model: torch.nn.Module) -> Any:
        if seen is not None:
            seen.append(copy.deepcopy(model))
        value = next(given, last)
        return {"val/loss": value, "val/bleu": value, "val/perplexity": 1.0}, []

    return validator


def train_until(trainer: Trainer, stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, with a SIGTERM at the end of step `stop`."""
    update = trainer.update

    def interrupting(batches: Any) -> int:
        tokens = update(batches)
        if trainer.step == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return tokens

    monkeypatch.setattr(trainer, "update", interrupting)
    assert not trainer.train()
    trainer.monitor.close()


def metrics(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's `metrics.jsonl`, without the speed."""
    return [{key: value for key, value in measured.items() if key not in TIMED} for measured in Run(run).metrics()]


def assert_same(one: Path, other: Path) -> None:
    """Compare two runs bit for bit: all that a checkpoint holds, the best weights, the metrics."""
    assert_equal(*(load_state(run / "checkpoints") for run in (one, other)))
    best = [(run / "checkpoints" / "best.safetensors").read_bytes() for run in (one, other)]
    assert best[0] == best[1]
    assert metrics(one) == metrics(other)
    assert metrics(one)


def assert_equal(one: Any, other: Any) -> None:
    """Compare nested dictionaries and lists of tensors and other values, bit for bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_equal(*pair)
    else:
        assert one == other


def check_run(run: Path, step: int, keep: int = 2) -> int:
    """Check that no file is damaged, and that no saved step was lost. Returns the step that training resumes from."""
    one = Run(run)
    for name in (one.config_file, one.corpus_file, one.record_file, *one.checkpoints.glob("*.safetensors")):
        if name.exists():
            verify_checksum(name)
    if one.config_file.exists():
        one.config()
        one.check_corpus()
    assert len(list(one.checkpoints.glob("step-*.safetensors"))) <= keep
    for file in run.glob("eval/[!.]*/metrics.json"):
        verify_digests(file.parent, files := read_json(file)["files"], files)
    assert all((directory / "metrics.json").exists() for directory in run.glob("eval/[!.]*"))
    state = load_state(one.checkpoints)
    reached = state["step"] if state else -1
    assert reached >= step, f"step {step} had been saved, and is lost"
    return int(reached)
