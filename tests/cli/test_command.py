"""Errors, `--help` and the switch `fast` of all commands. An import changes nothing in the process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.runs import ROOT, Started, overrides, script
from omegaconf import DictConfig, OmegaConf

from heed.cli import command
from heed.errors import DivergedError, UserError, WriteError
from heed.ops import switch


def run_as_command(function: Callable[[DictConfig], object], monkeypatch: pytest.MonkeyPatch) -> int:
    """Call `with_errors` as if Hydra did. Returns the exit status."""
    monkeypatch.setattr(command, "is_multirun", lambda: False)
    monkeypatch.setattr(command, "overrides", list)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    try:
        command.with_errors(function, OmegaConf.create({"fast": True}))
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def failing(error: BaseException) -> Callable[[DictConfig], object]:
    def function(_: DictConfig) -> object:
        raise error

    return function


@pytest.mark.parametrize("kind", [UserError, WriteError, DivergedError])
def test_an_error_for_users_is_one_line(kind: type[UserError], monkeypatch, capsys) -> None:
    assert run_as_command(failing(kind("width is 0: take 1")), monkeypatch) == 2
    assert capsys.readouterr().err == "error: width is 0: take 1\n"


@pytest.mark.parametrize(
    "function",
    [
        lambda _: torch.ones(2) @ torch.ones(3),
        lambda _: list(zip([1], [], strict=True)),
        failing(ValueError("could not broadcast")),
        failing(KeyError("width")),
        failing(OSError("no such device")),
    ],
)
def test_any_other_error_is_a_bug_with_a_traceback(
    function: Callable[[DictConfig], object], monkeypatch, capsys
) -> None:
    assert run_as_command(function, monkeypatch) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):") and __file__ in shown
    assert shown.endswith(command.BUG + "\n") and "report it" in command.BUG


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried\nto allocate"),
        MemoryError("array of 5 TiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_lack_of_memory_is_two_lines(error: Exception, monkeypatch, capsys) -> None:
    assert run_as_command(failing(error), monkeypatch) == 2
    shown = capsys.readouterr().err.split("\n")
    assert shown[0] == "error: out of memory: " + str(error).split("\n")[0]
    assert "a smaller model" in shown[1] and shown[2:] == [""]


def test_full_errors_are_shown_if_asked_for(monkeypatch) -> None:
    monkeypatch.setattr(command, "is_multirun", lambda: True)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(UserError, match="width"):
        command.with_errors(failing(UserError("width")), OmegaConf.create({"fast": True}))


def test_an_interrupted_command_says_so(monkeypatch, capsys) -> None:
    assert run_as_command(failing(KeyboardInterrupt()), monkeypatch) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_list_of_files_for_a_group_is_refused() -> None:
    message = r"score=\[dot,general\]: give one file of configs/score/; .* --multirun score=a,b"
    with pytest.raises(UserError, match=message):
        command.refuse_lists(["seed=2", "score=[dot,general]"])
    command.refuse_lists(["score=dot", "data.test=[a,b]", "runs=[a,b]"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score=nonsense"], "Available options in 'score':\n\tbahdanau\n\tconcat\n\tcontent"),
        (["score=dot", "model.decoder_dim=12"], "error: Dot multiplies query and key"),
        (["model.decoder_dim=100000000"], "error: out of memory: "),  # matrices of petabytes
        (["model.decoder_dim=10000000000"], "error: out of memory: "),  # more bytes than have an address
        (["fast=perhaps"], "fast is 'perhaps': it must be true or false"),
        (["experiment=multi30k_quik"], "error: experiment=multi30k_quik: there is no such recipe. Choose"),
        (["score=[dot,general]"], "error: score=[dot,general]: give one file of configs/score/"),
    ],
)
def test_the_script_prints_errors_without_a_traceback(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = script("train", *overrides(tmp_path), f"run={tmp_path / 'run'}", *arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_output_is_reported_in_a_line(run: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    errors, end = os.pipe()
    streams = (None, writer, end)
    with Started("compare", f"runs={run}", f"out={run.parent / 'unread'}", streams=streams) as started:
        os.close(writer), os.close(end)
        assert started.wait(60) == 2
    with open(errors, encoding="utf-8") as file:
        assert file.read() == "error: the output pipe was closed\n"


def test_the_list_of_scores_ends_quietly_if_its_reader_does() -> None:
    """`scripts/scores.py | true` prints no error. Python may find the closed pipe only at its end."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [sys.executable, "scripts/scores.py"], cwd=ROOT, stdout=closed, stderr=subprocess.PIPE, timeout=60
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_fast_reaches_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(command, "is_multirun", lambda: True)
    before = switch.enabled()
    try:
        for fast in (False, True):
            command.with_errors(
                lambda config: seen.append((switch.enabled(), dict(config))),
                OmegaConf.create({"fast": fast, "seed": 3}),
            )
    finally:
        switch.set_fast(before)
    assert seen == [(False, {"seed": 3}), (True, {"seed": 3})]


def without_torch(*commands: tuple[str, ...]) -> list[tuple[str, str]]:
    """Run scripts one after the other in a new process without torch. Returns their output and errors."""
    program = f"""
import io, json, runpy, sys
from contextlib import redirect_stderr, redirect_stdout
shown = []
for command in {commands!r}:
    sys.argv = list(command)
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit:
            pass
    shown.append((out.getvalue(), err.getvalue()))
    assert "torch" not in sys.modules, command
print(json.dumps(shown))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [(out, err) for out, err in json.loads(done.stdout)]


def test_help_mistakes_and_preparing_need_no_torch(tmp_path: Path) -> None:
    names = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))
    arguments = [key for key in overrides(tmp_path) if not key.startswith("tokenizer")]  # left: sentencepiece
    mistakes = [
        (("train", "training.clip_norm=-1"), "error: training.clip_norm"),
        (("train", "test_split=dev"), "error: there is no split 'dev'"),
        (("prepare", *arguments, "+nonsense=1"), "nonsense"),
    ]
    commands = [(name, "--help") for name in names] + [given for given, _ in mistakes]
    shown = without_torch(*((f"scripts/{name}.py", *rest) for name, *rest in [*commands, ("prepare", *arguments)]))
    for name, (out, _) in zip(names, shown, strict=False):
        assert "help" in out, name
    scores = "bahdanau, concat, content, dot, general, last, none, random, scaled_dot, uniform"
    assert f"score: {scores}" in shown[names.index("train")][0]
    for (_, message), (_, err) in zip(mistakes, shown[len(names) :], strict=False):
        assert message in err
    assert "train 60, val 7, test 5" in shown[-1][0]


IMPORTS = """
import logging, os, sys, threading, warnings, importlib

def state():
    loggers = {name: (one.level, one.disabled, one.propagate, one.handlers)
               for name, one in logging.Logger.manager.loggerDict.items()
               if isinstance(one, logging.Logger) and name in names}
    root = logging.getLogger()
    return (dict(os.environ), threading.excepthook, sys.excepthook, warnings.showwarning,
            warnings.formatwarning, root.level, root.handlers[:], loggers)

import torch, hydra, torch.utils.tensorboard, matplotlib, sacrebleu  # what they change is not heed's doing
names = set(logging.Logger.manager.loggerDict)
threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
before = state()
for name in sys.argv[1:]:
    importlib.import_module(name)
    assert state() == before, name
assert (threads, grad) == (torch.get_num_threads(), torch.is_grad_enabled())
"""


def test_importing_heed_changes_nothing_in_the_process() -> None:
    """Environment, logging, warnings, hooks. Commands set them, and so does the module that all commands import."""
    modules = sorted(
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "src" / "heed").rglob("*.py")
    )
    modules = [one for one in modules if not one.startswith("heed.cli")] + ["heed.cli.process"]
    assert {"heed", "heed.training.trainer", "heed.ops.linear"} <= set(modules)
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *modules], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr


def test_commands_set_up_the_process() -> None:
    program = """
import logging, os, threading
from heed.cli import command, process
assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE" and os.environ["GOMP_SPINCOUNT"] == "1000"
before = threading.excepthook, logging.getLogger().handlers[:]
assert before == (threading.__excepthook__, [])
command.command("train")
assert before == (threading.excepthook, logging.getLogger().handlers), "only a call sets up output"
process.set_up_output(), process.set_up_thread_errors()
logging.getLogger("heed").warning("shown")
class _AsyncWriterThread(threading.Thread): pass
def fail(): raise RuntimeError("in a thread")
for kind in (threading.Thread, _AsyncWriterThread):
    thread = kind(target=fail); thread.start(); thread.join()
import sys
assert "torch" not in sys.modules
"""
    environment = {**os.environ, "OMP_WAIT_POLICY": "ACTIVE"}
    environment.pop("GOMP_SPINCOUNT", None)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("WARNING: shown\n")
    assert done.stderr.count("RuntimeError: in a thread") == 1, "of TensorBoard's thread none is shown"


def test_tensorboards_writing_thread_has_the_name_that_is_looked_for() -> None:
    from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread

    assert _AsyncWriterThread.__name__ == "_AsyncWriterThread"
