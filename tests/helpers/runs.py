"""A corpus of a few dozen lines, a model of some thousand parameters, and ways to run heed's commands with them."""

import multiprocessing
import os
import random
import re
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import cache
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
from heed.errors import UserError
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
        (directory / f"{split}.en").write_text("".join(f"{line.upper()}\n" for line in lines), encoding="utf-8")
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


def config(directory: Path, *more: str, without: str = " ") -> TrainConfig:
    """Return the tiny configuration as `scripts/train.py` makes it, less the overrides of the group `without`."""
    kept = [one for one in overrides(directory) if not one.startswith(without)]
    # Hydra takes more time than anything else here: compose for one directory, and exchange it.
    settings = deepcopy(_composed(*(one.replace(str(directory), "DIRECTORY") for one in kept), *more))
    if source := settings.data.get("source"):
        settings.data["source"] = source.replace("DIRECTORY", str(directory))
    settings.data_dir = settings.data_dir.replace("DIRECTORY", str(directory))
    return settings


@cache
def _composed(*arguments: str) -> TrainConfig:
    return train_config(*with_names("train", *arguments))


def with_names(name: str, *arguments: str) -> tuple[DictConfig, dict[str, str]]:
    """Compose a command's configuration. Returns the names of the chosen YAMLs too, as Hydra has them."""
    composed_config = composed(name, *arguments, return_hydra_config=True)
    OmegaConf.set_struct(composed_config, False)
    chosen = composed_config.pop("hydra").runtime.choices
    return composed_config, choices(composed_config, chosen)


@contextmanager
def shapes_checked(on: bool) -> Iterator[None]:
    """Check the shapes in heed's signatures at every call inside the block, or do not."""
    with patch.object(jaxtyping.config, "jaxtyping_disable", not on):
        yield


@contextmanager
def quick(on: bool = True) -> Iterator[None]:
    """Check no shapes, and draw only one heat map of an evaluation, inside the block.

    The checks and the heat maps take a third of the time each, and one test of each command has them.
    """
    if not on:
        yield
        return
    with shapes_checked(False), patch("heed.evaluation.report.NUM_HEATMAPS", 1):
        yield


def command(name: str, *arguments: str, checked: bool = False) -> Any:
    """Call a command's function in this process, as `quick` unless `checked`. Its errors are raised."""
    config, names = with_names(name, *arguments)
    assert config.pop("fast")
    with quick(not checked):
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
    pipes = [os.pipe(), os.pipe()]
    with tempfile.TemporaryFile() as given, ThreadPoolExecutor() as threads:
        given.write(input.encode())
        given.flush()
        given.seek(0)
        streams = (given.fileno(), *(writer for _, writer in pipes))
        with Started(name, *arguments, streams=streams, cwd=cwd, before=before) as started:
            for _, writer in pipes:
                os.close(writer)
            shown = [threads.submit(_read_all, reader) for reader, _ in pipes]
            status = started.wait(timeout)
        return subprocess.CompletedProcess(started.command, status, *(one.result() for one in shown))


def _read_all(reader: int) -> str:
    with open(reader, encoding="utf-8") as file:
        return file.read()


def most_memory(use: Callable[..., object], *arguments: object) -> tuple[int, str]:
    """Call a function in a new process. Returns how many MiB its memory grew at most, and the `UserError` it raised.

    The function must be one of a module. The process may take 16 GiB.
    """
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=_measure, args=(sender, use, arguments))
    process.start()
    sender.close()
    try:
        if not receiver.poll(100):
            raise subprocess.TimeoutExpired(str(use), 100)
        grown, message = receiver.recv()  # EOFError: it was killed
    finally:
        process.kill()
        process.join()
    return int(grown) >> 10, str(message)


def _measure(sender: Any, use: Callable[..., object], arguments: tuple[object, ...]) -> None:
    """Send the growth of this process in KiB, and the message of a `UserError`. In the new process."""
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = "no error"
    try:
        use(*arguments)
    except UserError as error:
        message = str(error)
    sender.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, message))


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
    run_script(command)


def run_script(command: list[str]) -> None:
    """Run a script in this process as Python does. It may exit."""
    sys.path[0], sys.argv = str(Path(command[0]).parent), command
    try:
        runpy.run_path(command[0], run_name="__main__")
    finally:
        try:
            sys.stderr.flush()
        except OSError:  # on a terminal that is gone. Python ignores it too
            sys.stderr = None
