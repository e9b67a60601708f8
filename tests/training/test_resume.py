"""Stop and resume: the end is the same, bit for bit, as without a stop."""

import os
import random
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import Started, command, config, overrides, script, shapes_checked
from helpers.training import assert_same, make, make_from, train_until

from heed.errors import DivergedError
from heed.run.checkpoints import load_state
from heed.training.signals import stopping_signals


@pytest.mark.parametrize(
    "more",
    [
        [],
        pytest.param(
            ["training.schedule=plateau", "training.monitor=loss", "training.accumulate=2"],
            marks=pytest.mark.slow,
        ),
        [
            *("training.ema_decay=0", "decoder=bahdanau", "score=general", "training.optimizer=adamw"),
            *("training.r_drop=1", "model.word_dropout=0.1"),
        ],
    ],
)
def test_stop_anywhere_and_resume_is_never_stopped(tmp_path: Path, more: list[str], monkeypatch) -> None:
    more = [*more, "training.max_epochs=2", "training.batch_tokens=60"]
    whole = make(tmp_path, "whole", *more)
    with shapes_checked(True):
        assert whole.train()
    steps_per_epoch = whole.total_steps // 2
    anywhere = random.SystemRandom().randrange(2, whole.total_steps - 1)
    near_the_end = (whole.total_steps - 1, whole.total_steps)
    for stop in (1, steps_per_epoch - 1, steps_per_epoch + 2, *near_the_end, anywhere):
        name = f"stopped-{stop}"
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        trainer = make(tmp_path, name, *more)
        train_until(trainer, stop, monkeypatch)
        torch.manual_seed(stop)  # a new process would not continue this one's random numbers
        resumed = make(tmp_path, name, *more)
        assert resumed.step == stop
        assert resumed.train()
        resumed.monitor.close()
        assert_same(tmp_path / "whole", tmp_path / name)


def test_stopped_and_resumed_in_a_sampled_epoch_is_never_stopped(tmp_path: Path, monkeypatch) -> None:
    more: tuple[str, ...] = (
        "tokenizer=sentencepiece",
        "subwords.vocab_size=290",
        "training.subword_sampling=0.3",
    )
    more += ("training.r_drop=2", "training.accumulate=2", "model.word_dropout=0.1", "training.max_epochs=2")
    settings = config(tmp_path, *more, without="tokenizer")
    whole = make_from(settings, tmp_path, "whole")
    assert whole.train()
    threads = {thread.name for thread in threading.enumerate()}
    trainer = make_from(settings, tmp_path, "stopped")
    train_until(trainer, whole.total_steps // 2 + 1, monkeypatch)
    resumed = make_from(settings, tmp_path, "stopped")
    assert resumed.train()
    resumed.monitor.close()
    assert_same(tmp_path / "whole", tmp_path / "stopped")
    assert not [name for name in threads if name.startswith("ThreadPoolExecutor")], (
        "a thread that makes batches goes on"
    )


@pytest.mark.parametrize(
    ("run", "precision", "compiled"),
    [
        (command, "fp32", "false"),
        # In new processes: the compiler would stumble over this suite's checks of shapes.
        pytest.param(script, "fp32", "true", marks=pytest.mark.slow),
        pytest.param(script, "bf16", "true", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_process_says_so_and_resumes_to_the_same_end(
    tmp_path: Path, run: Callable[..., Any], precision: str, compiled: str
) -> None:
    arguments = [*overrides(tmp_path), "training.save_every=4", "training.max_epochs=4"]
    arguments += [f"training.precision={precision}", f"training.compile={compiled}"]
    run("train", *arguments, f"run={tmp_path / 'whole'}")
    stopped_run = tmp_path / "stopped"
    with open(tmp_path / "out", "w") as out:
        streams = (None, out.fileno(), None)
        with Started("train", *arguments, f"run={stopped_run}", streams=streams) as process:
            while not (stopped_run / "checkpoints" / "last.safetensors").exists():
                assert process.poll() is None
                time.sleep(0.001)
            process.send_signal(signal.SIGINT)  # somewhere between two saves
            assert process.wait(60) == 130
    stopped, whole = (load_state(one / "checkpoints") for one in (stopped_run, tmp_path / "whole"))
    assert stopped is not None and whole is not None
    assert stopped["step"] < whole["step"], "the process was too fast for this test"
    assert "the same command continues from there" in (tmp_path / "out").read_text()
    run("train", *arguments, f"run={stopped_run}")
    assert_same(tmp_path / "whole", stopped_run)


def test_a_closed_terminal_stops_training_and_its_state_is_saved(tmp_path: Path) -> None:
    """A terminal that is gone makes the bar, and every line printed there, an error."""
    run, log = tmp_path / "run", tmp_path / "log"
    given = [*overrides(tmp_path), f"run={run}", "training.max_epochs=100000"]
    terminal, its = os.openpty()
    with (
        open(log, "w") as out,
        Started("train", *given, streams=(None, out.fileno(), its)) as process,
    ):
        os.close(its)
        deadline = time.monotonic() + 120
        while "epoch 2: val" not in log.read_text():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 130
    assert re.search(r"interrupted at step \d+ and saved", log.read_text())
    assert load_state(run / "checkpoints")["step"] == int(re.search(r"at step (\d+) and", log.read_text())[1])


@pytest.mark.usefixtures("heard_signals")
def test_under_nohup_a_closed_terminal_stops_nothing() -> None:
    assert signal.SIGHUP in stopping_signals()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert signal.SIGHUP not in stopping_signals()


def test_a_run_begun_on_a_cpu_goes_on_elsewhere(tmp_path: Path) -> None:
    trainer = make(tmp_path, "run")
    state = trainer._state_dict()
    assert state["random_cuda"] is None
    trainer.device = torch.device("cuda")  # only its random state is asked for here
    trainer._load_state_dict(state)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, monkeypatch) -> None:
    trainer = make(tmp_path, "run", "training.save_every=2", "training.max_epochs=1")
    update = trainer.update

    def poisoned(batches: list[Any]) -> int:
        tokens = update(batches)
        if trainer.step == 6:
            with torch.no_grad():
                trainer.model.output.bias[3] = torch.inf
        return tokens

    monkeypatch.setattr(trainer, "update", poisoned)
    with pytest.raises(DivergedError, match=r"weights are not finite, up to step 6; .*learning_rate"):
        trainer.train()
    trainer.monitor.close()
    resumed = make(tmp_path, "run", "training.save_every=2", "training.max_epochs=1")
    assert resumed.step == 4 and resumed.train()
    resumed.monitor.close()
    whole = make(tmp_path, "whole", "training.save_every=2", "training.max_epochs=1")
    assert whole.train()
    whole.monitor.close()
    assert_same(tmp_path / "whole", tmp_path / "run")
