"""`metrics.jsonl` and TensorBoard."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.runs import command, overrides
from helpers.training import make, scripted
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from heed.run.directory import Run
from heed.search.translator import Translation
from heed.training.monitor import LAYOUT, Monitor


def test_tensorboard_has_what_is_promised_and_no_step_twice(tmp_path: Path) -> None:
    arguments = [*overrides(tmp_path), f"run={tmp_path / 'run'}", "training.num_samples=2"]
    command("train", *arguments, "training.save_every=3")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"images": 0}).Reload()
    tags = events.Tags()
    for tag in [
        "train/loss",
        "train/perplexity",
        "train/learning_rate",
        "train/gradient_norm",
        "train/tokens_per_second",
        "val/loss",
        "val/perplexity",
        "val/bleu",
        *(f"val/attention_{name}" for name in LAYOUT["attention"]),
        "test/bleu",
        "test/chrf",
        "test/ter",
    ]:
        assert tag in tags["scalars"], tag
        steps = [event.step for event in events.Scalars(tag)]
        assert steps == sorted(set(steps)), tag
    assert {"alignment/1", "alignment/2"} <= set(tags["images"])
    assert "translations/text_summary" in tags["tensors"]
    assert "custom_scalars__config__" in tags["tensors"]
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= set(events.summary_metadata)
    entropy = [event.value for event in events.Scalars("val/attention_entropy")]
    assert all(0 <= value <= 1 for value in entropy)


def test_each_entry_of_the_log_is_of_the_steps_since_the_last(tmp_path: Path) -> None:
    trainer = make(tmp_path, "run", "training.log_every=2", "training.max_steps=6")
    losses, tokens, norms = [], [], []
    backward, clip = trainer._backward, torch.nn.utils.clip_grad_norm_

    def noted(batches: list, number: int) -> torch.Tensor:
        losses.append(float(nll := backward(batches, number)))
        tokens.append(number)
        return nll

    def clipped(*given: Any) -> torch.Tensor:
        norms.append(float(norm := clip(*given)))
        return norm

    trainer._backward = noted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heed.training.trainer.nn.utils.clip_grad_norm_", clipped)
        trainer.validator = scripted([1.0])
        assert trainer.train()
    logged = [line for line in Run(tmp_path / "run").metrics() if "train/loss" in line]
    assert len(logged) == 3
    for n, line in zip((0, 2, 4), logged, strict=True):
        assert line["train/loss"] == pytest.approx(sum(losses[n : n + 2]) / sum(tokens[n : n + 2]))
        assert line["train/gradient_norm"] == pytest.approx(sum(norms[n : n + 2]) / 2)


def test_other_files_beside_the_events_are_left_alone(tmp_path: Path) -> None:
    trainer = make(tmp_path, "run", "training.max_epochs=1")
    trainer.validator = scripted([1.0])
    (Run(tmp_path / "run").tensorboard / "plugins" / "profile").mkdir(parents=True)
    assert trainer.train()


def test_text_has_no_markup_and_no_escapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard shows Markdown, and a terminal obeys escapes. (Pages: tests/page, reports: tests/evaluation)"""
    monitor = Monitor(Run(tmp_path), 0)
    written: list[str] = []
    monkeypatch.setattr(monitor.writer, "add_text", lambda tag, text, step: written.append(text))
    attack = "<img src=x onerror=alert(1)> | `x` \x1b[2J"
    translation = Translation(attack, 0.0, ["a", "</s>"], ["b", "</s>"], np.eye(2, dtype=np.float32))
    monitor.samples(1, [(attack, attack, translation)])
    monitor.close()
    (row,) = written[0].split("\n")[2:]
    assert row.count("|") == 4 and not set("<`\x1b") & set(row)
