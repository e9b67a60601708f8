"""Many runs by one command: which jobs there are, and signals. (Reports on them: tests/comparison)"""

import importlib
import signal
import subprocess
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from heed.cli import multirun

SWEEPS = [
    ["score=dot,general", "seed=1,2,3"],
    ["seed=range(1,4)", "score=choice(dot,general)"],
    ["model.dropout=0.1,0.2", "+score.power=1", "~experiment"],
    ["data.test=[a,b]", "seed=5"],
    ["run='runs/a,b'", "seed=1,2"],
    ["training.betas=[0.9,0.98],[0.9,0.99]"],
    [],
]


@pytest.mark.parametrize("arguments", SWEEPS)
def test_jobs_are_those_of_hydras_own_sweeper(arguments: list[str]) -> None:
    try:
        sweeper = importlib.import_module("hydra._internal.core_plugins.basic_sweeper").BasicSweeper
        split_arguments = sweeper.split_arguments
    except (ImportError, AttributeError):
        pytest.skip("this version of Hydra has no such private class")
    overrides = OverridesParser.create().parse_overrides(arguments)
    (expected,) = split_arguments(overrides, None)
    assert sorted(multirun.jobs(arguments)) == sorted(map(list, expected))


def test_the_last_value_of_a_key_counts() -> None:
    assert multirun.jobs(["seed=1,2", "score=dot", "seed=7"]) == [["seed=7", "score=dot"]]


class FakeProcess:
    """Records the signals that a process is sent. `at_start` arrive while it begins, `later` while it runs."""

    at_start: Sequence[int] = ()
    later: Sequence[int] = ()
    made: ClassVar[list["FakeProcess"]] = []
    returncode = 130

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        assert options["start_new_session"], "a terminal's Ctrl-C must reach it through its parent alone"
        self.sent: list[int] = []
        FakeProcess.made.append(self)
        for number in self.at_start:
            signal.raise_signal(number)
        assert not self.sent, "nothing can be sent to it yet"

    def send_signal(self, number: int) -> None:
        self.sent.append(number)

    def communicate(self) -> tuple[None, str]:
        for number in self.later:
            signal.raise_signal(number)
        return None, "errors"


@pytest.mark.usefixtures("heard_signals")
@pytest.mark.parametrize(
    ("at_start", "later", "sent"),
    [
        ((), (), []),
        ((), (signal.SIGINT, signal.SIGINT), [signal.SIGINT, signal.SIGINT]),
        ((), (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP), [signal.SIGTERM]),
        ((signal.SIGINT,), (), [signal.SIGINT]),
        ((signal.SIGTERM, signal.SIGTERM), (), [signal.SIGTERM]),
        ((signal.SIGHUP,), (signal.SIGINT,), [signal.SIGHUP, signal.SIGINT]),
    ],
)
def test_signals_are_handed_on_also_if_they_come_while_the_run_begins(
    monkeypatch: pytest.MonkeyPatch, at_start: tuple[int, ...], later: tuple[int, ...], sent: list[int]
) -> None:
    monkeypatch.setattr(FakeProcess, "at_start", at_start)
    monkeypatch.setattr(FakeProcess, "later", later)
    monkeypatch.setattr(subprocess, "Popen", FakeProcess)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    received, status, errors = multirun._run_with_signals(["train"], subprocess.PIPE)
    assert FakeProcess.made[-1].sent == sent
    assert (received, status, errors) == ([*at_start, *later], 130, "errors")
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert after == handlers


@pytest.mark.usefixtures("heard_signals")
def test_handlers_are_restored_if_the_run_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: Any, **__: Any) -> None:
        raise OSError("cannot fork")

    monkeypatch.setattr(subprocess, "Popen", no_memory)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(OSError, match="cannot fork"):
        multirun._run_with_signals(["train"], None)
    assert signal.getsignal(signal.SIGINT) == before
