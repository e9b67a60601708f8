"""The run directory: another configuration is refused, `metrics.jsonl` is a log."""

import json
from pathlib import Path

import pytest
from helpers.runs import config
from helpers.training import make

from heed.errors import UserError
from heed.run.checkpoints import save_state
from heed.run.directory import Run


def test_a_directory_of_another_configuration_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "run")
    run = Run(tmp_path / "run")
    run.check(config(tmp_path, "seed=3"))  # nothing is trained yet, so nothing can be lost
    save_state(run.checkpoints, {"step": 1})
    without_effect = ("search.width=2", "device=cpu", "metrics.bootstrap=7", "training.strict_resume=true")
    run.check(config(tmp_path, *without_effect))
    with pytest.raises(UserError) as error:
        run.check(config(tmp_path, "seed=3", "training.learning_rate=0.5"))
    assert "seed: 1, 3" in str(error.value)
    assert "training.learning_rate: 0.002, 0.5" in str(error.value)
    assert str(error.value).count("\n  ") == 2


@pytest.mark.parametrize(
    "damaged",
    ["", "{", '{"step": 2, "train/loss": 1', "[2]", '{"step": "2"}', '{"train/loss": 1}', "\x00\ufffd"],
)
def test_a_damaged_line_of_the_log_is_left_out_with_a_warning(tmp_path: Path, damaged: str, caplog) -> None:
    run = Run(tmp_path)
    lines = [{"step": 1, "train/loss": 3.5}, {"step": 3, "val/bleu": 0.5}]
    first, last = map(json.dumps, lines)
    run.metrics_file.write_text(f"{first}\n{damaged}\n{last}\n", encoding="utf-8")
    assert run.metrics() == lines
    assert f"{run.metrics_file}: 1 lines are damaged or lost" in caplog.text


def test_an_unfinished_last_line_of_the_log_is_no_damage_but_missing_lines_are(tmp_path: Path, caplog) -> None:
    run = Run(tmp_path)
    assert run.metrics() == []
    run.metrics_file.write_text('{"step": 1}\n{"step": 2, "tra', encoding="utf-8")
    assert run.metrics(1) == [{"step": 1}] and not caplog.text
    assert run.metrics(3) == [{"step": 1}] and "2 lines are damaged or lost" in caplog.text
