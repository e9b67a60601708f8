"""The record of a run's arithmetic: its history, and what a change of it does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.training import make, scripted, train_until

from heed.device import has_onednn_bf16
from heed.errors import UserError
from heed.ops import switch
from heed.run.directory import Run
from heed.training.setup import extended, history

HERE = {"device": "CPU", "precision": "fp32", "threads": 1}
OTHER = HERE | {"precision": "bf16"}
FP32 = "training.precision=fp32"


@pytest.mark.parametrize(
    ("parts", "step", "now", "expected"),
    [
        ([], 0, HERE, [{"step": 0, **HERE}]),
        ([{"step": 0, **HERE}], 7, HERE, [{"step": 0, **HERE}]),
        ([{"step": 0, **HERE}], 7, OTHER, [{"step": 0, **HERE}, {"step": 7, **OTHER}]),
        ([{"step": 0, **HERE}], 0, OTHER, [{"step": 0, **OTHER}]),
        # The steps from 5 on were lost, and are done again.
        ([{"step": 0, **HERE}, {"step": 7, **OTHER}], 5, HERE, [{"step": 0, **HERE}]),
        ([{"step": 0, **HERE}, {"step": 7, **OTHER}], 7, OTHER, [{"step": 0, **HERE}, {"step": 7, **OTHER}]),
    ],
)
def test_history_has_a_part_for_each_change(
    parts: list[dict[str, Any]], step: int, now: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    assert extended(parts, step, now) == expected


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a run that was stopped after five steps in float32."""
    trainer = make(tmp_path, "run", FP32)
    trainer.validator = scripted([1.0])
    train_until(trainer, 5, monkeypatch)
    return tmp_path


def test_resuming_in_the_same_arithmetic_says_and_adds_nothing(stopped: Path, caplog) -> None:
    (before,) = history(Run(stopped / "run"))
    assert before["step"] == 0 and before["precision"] == "fp32" and before["torch"] == torch.__version__
    make(stopped, "run", FP32, "training.strict_resume=true").monitor.close()
    assert history(Run(stopped / "run")) == [before] and "arithmetic" not in caplog.text


def test_another_arithmetic_is_warned_of_and_recorded(stopped: Path, caplog, monkeypatch) -> None:
    if has_onednn_bf16():
        make(stopped, "run", "training.precision=bf16").monitor.close()
        assert "continues in another arithmetic: precision was 'fp32', is 'bf16'" in caplog.text
        assert [(one["step"], one["precision"]) for one in history(Run(stopped / "run"))] == [
            (0, "fp32"),
            (5, "bf16"),
        ]
    caplog.clear()
    monkeypatch.setattr("heed.training.setup.device_name", lambda _: "another CPU")
    monkeypatch.setattr("heed.training.setup.missing_for_compiling", lambda: None)
    with switch.reference():
        make(stopped, "run", FP32, "training.compile=true").monitor.close()
    for key in ("device", "compiled", "reference"):
        assert f"{key} was" in caplog.text
    *_, last = history(Run(stopped / "run"))
    assert (last["device"], last["compiled"], last["reference"]) == ("another CPU", True, True)


def test_strict_resume_refuses_another_arithmetic_and_changes_nothing(stopped: Path, monkeypatch) -> None:
    before = (stopped / "run" / "training.json").read_bytes()
    monkeypatch.setattr("heed.training.setup.device_name", lambda _: "another CPU")
    with pytest.raises(UserError, match=r"another arithmetic \(device was .*strict_resume=true\. Continue it"):
        make(stopped, "run", FP32, "training.strict_resume=true")
    assert (stopped / "run" / "training.json").read_bytes() == before


def test_a_new_run_has_no_earlier_arithmetic(tmp_path: Path, monkeypatch, caplog) -> None:
    make(tmp_path, "run").monitor.close()  # ends before its first checkpoint
    monkeypatch.setattr("heed.training.setup.device_name", lambda _: "another CPU")
    make(tmp_path, "run", "training.strict_resume=true").monitor.close()
    (part,) = history(Run(tmp_path / "run"))
    assert part["device"] == "another CPU" and "arithmetic" not in caplog.text


def test_a_damaged_record_does_not_stop_training(stopped: Path, caplog) -> None:
    record = stopped / "run" / "training.json"
    record.write_bytes(record.read_bytes().replace(b"fp32", b"fp31"))
    make(stopped, "run", FP32).monitor.close()
    assert "training.json is damaged" in caplog.text
    assert [one["step"] for one in history(Run(stopped / "run"))] == [5]


def test_compiling_without_a_compiler_is_warned_of(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr("heed.training.setup.missing_for_compiling", lambda: "a C++ compiler (g++)")
    make(tmp_path, "run", "training.compile=true").monitor.close()
    assert "training.compile=true needs a C++ compiler (g++): not found" in caplog.text
    assert [one["compiled"] for one in history(Run(tmp_path / "run"))] == [False]
