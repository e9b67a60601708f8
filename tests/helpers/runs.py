"""A corpus of a few dozen lines, a model of some thousand parameters, and ways to run heed's commands with them."""

import multiprocessing
import os
import random
import re
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib import import_module
from multiprocessing import reduction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jaxtyping
import torch
from omegaconf import DictConfig, OmegaConf

from heed.cli.command import choices
from heed.cli.train import train
from heed.config.schema import TrainConfig, train_config, typed
from helpers.models import PRIMARY, ROOT, composed

# The server has imported torch, so that a new process has it at once.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    [
        "heed.cli.train",
        "heed.comparison.compare",
        "heed.training.setup",
        "torch._dynamo",
        "tensorboard",
        "matplotlib",
    ]
)


def write_corpus(directory: Path, num_train: int = 60) -> Path:
    """Write sources of common words, and the same words in upper case as their translations."""
    directory.mkdir(parents=True, exist_ok=True)
    generator = random.Random(7)
    for split, num in (("train", num_train), ("val", 7), ("test", 5)):
        lines = [
            " ".join(generator.choices(["ene", "mene", "muh", "und", "raus", "bist", "du"], k=n % 6 + 1))
            for n in range(num)
        ]
        (directory / f"{split}.de").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (directory / f"{split}.en").write_text(
            "".join(f"{line.upper()}\n" for line in lines), encoding="utf-8"
        )
    return directory


def overrides(directory: Path) -> list[str]:
    """Return the overrides of a tiny configuration. Writes its corpus if there is none in the directory."""
    if not (directory / "corpus").exists():
        write_corpus(directory / "corpus")
    return [
        "data=files",
        f"data.source={directory / 'corpus'}",
        f"data_dir={directory / 'data'}",
        "tokenizer=word",
        "tokenizer.min_frequency=1",
        "model.embedding_dim=6",
        "model.encoder_dim=5",
        "model.encoder_layers=1",
        "model.decoder_dim=10",
        "model.dropout=0.2",
        "training.batch_tokens=40",
        "training.max_epochs=3",
        "training.warmup_steps=5",
        "training.log_every=3",
        "training.ema_decay=0.9",
        "training.num_samples=0",  # a heat map takes longer than the steps of an epoch
        "metrics.bootstrap=20",
    ]


def config(directory: Path, *more: str) -> TrainConfig:
    """Return the tiny configuration as `scripts/train.py` makes it."""
    return train_config(*with_names("train", *overrides(directory), *more))


def with_names(name: str, *arguments: str) -> tuple[DictConfig, dict[str, str]]:
    """Compose a command's configuration. Returns the names of the chosen YAMLs too, as Hydra has them."""
    composed_config = composed(name, *arguments, return_hydra_config=True)
    OmegaConf.set_struct(composed_config, False)
    chosen = composed_config.pop("hydra").runtime.choices
    return composed_config, choices(composed_config, chosen)


def command(name: str, *arguments: str, checked: bool = False) -> Any:
    """Call a command's function in this process. Its errors are raised.

    Unless `checked`, shapes in signatures are not checked, and only one heat map of an evaluation is drawn: both take
    a third of the time, and a test of each command is enough.
    """
    config, names = with_names(name, *arguments)
    assert config.pop("fast")
    with ExitStack() as stack:
        if not checked:
            stack.enter_context(patch.object(jaxtyping.config, "jaxtyping_disable", True))
            stack.enter_context(patch("heed.evaluation.report.NUM_HEATMAPS", 1))
        if name == "train":
            return train(train_config(config, names), config.run)
        package = {"evaluate": "evaluation", "compare": "comparison"}.get(name, "cli")
        function = getattr(import_module(f"heed.{package}.{name}"), name)
        settings = typed(PRIMARY[name], config)
        if package == "cli":
            return function(settings)
        # As `search_choice` finds it.
        overridden = any(re.match(r"search\.|metrics\.(?!bootstrap)", one) for one in arguments)
        return function(settings, names["search"], overridden)


class Started:
    """A script in a new process, which is forked from a server that has imported torch.

    A small `subprocess.Popen`: standard streams are file descriptors, or the null device. The process hears SIGINT and
    SIGHUP even if nohup or a script's `&` began the tests. It ends by `os._exit`: how Python ends, and what becomes of
    its threads then, needs a `subprocess`.
    """

    def __init__(
        self,
        name: str,
        *arguments: str,
        streams: tuple[int | None, int | None, int | None] = (None, None, None),
        cwd: Path = ROOT,
        before: Callable[[], object] | None = None,
    ) -> None:
        """`before` is called in the process at first. It must be a function of a module, or a partial of one."""
        self.command = [str(ROOT / "scripts" / f"{name}.py"), *arguments]
        given = (self.command, cwd, dict(os.environ), tuple(map(Descriptor, streams)), before)
        self.process = processes.Process(target=_start, args=given)
        self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.pid is not None and self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float = 300) -> int:
        """Return the exit status. Kills the process and raises if it takes longer."""
        self.process.join(timeout)
        if (status := self.poll()) is None:
            self.process.kill()
            raise subprocess.TimeoutExpired(self.command, timeout)
        return status

    def __enter__(self) -> "Started":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()


class Descriptor:
    """A file descriptor that is handed on to a new process. None is the null device."""

    def __init__(self, number: int | None) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return _received, (None if self.number is None else reduction.DupFd(self.number),)


def _received(handed_on: Any) -> int:
    return os.open(os.devnull, os.O_RDWR) if handed_on is None else handed_on.detach()


def script(
    name: str,
    *arguments: str,
    input: str = "",
    cwd: Path = ROOT,
    timeout: float = 300,
    before: Callable[[], object] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a script to its end in a new process, as `subprocess.run` does."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(input.encode())
        given.flush()
        given.seek(0)
        streams = (given.fileno(), out.fileno(), err.fileno())
        with Started(name, *arguments, streams=streams, cwd=cwd, before=before) as started:
            status = started.wait(timeout)
        shown = []
        for file in (out, err):
            file.seek(0)
            shown.append(file.read().decode())
    return subprocess.CompletedProcess(started.command, status, *shown)


def _start(
    command: list[str],
    cwd: Path,
    environment: dict[str, str],
    streams: tuple[int, int, int],
    before: Callable[[], object] | None,
) -> None:
    """Run a script as Python does. In the new process."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with suppress(PermissionError):  # the leader of a session already
        os.setsid()
    torch.set_num_threads(1)
    if before:
        before()
    sys.path[0], sys.argv = str(Path(command[0]).parent), command
    runpy.run_path(command[0], run_name="__main__")
