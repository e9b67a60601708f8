"""A corpus of a few dozen lines and a model of a few thousand parameters, for tests of the whole way."""

import multiprocessing
import os
import random
import runpy
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from heed.cli.train import train
from heed.config.schema import TrainConfig, train_config, typed
from helpers.models import PRIMARY, ROOT, composed

# Its server has torch loaded, so that a start takes no time.
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
NAMES = {"data": "files", "score": "bahdanau", "decoder": "luong", "experiment": "files", "search": "beam"}


def write_corpus(directory: Path, num_train: int = 60) -> Path:
    """Words in, the same words in upper case out."""
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
    """What makes a configuration tiny, as given on a command line; the corpus is made if it is not there."""
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
        "training.num_samples=1",  # a heat map takes longer than the steps of an epoch
        "metrics.bootstrap=20",
    ]


def config(directory: Path, *more: str) -> TrainConfig:
    """The typed configuration, as `scripts/train.py` would make it."""
    return train_config(composed("train", *overrides(directory), *more), NAMES)


def command(name: str, *arguments: str) -> Any:
    """What a script does, in this process, without its start; what it would tell is raised."""
    assert not {argument.partition("=")[0] for argument in arguments} & (NAMES.keys() - {"data"}), (
        "NAMES says"
    )
    config = composed(name, *arguments)
    OmegaConf.set_struct(config, False)
    assert config.pop("fast")
    if name == "train":
        return train(train_config(config, NAMES), config.run)
    package = {"evaluate": "evaluation", "compare": "comparison"}.get(name, "cli")
    function = getattr(import_module(f"heed.{package}.{name}"), name)
    searches = ["trained", any(argument.startswith(("search.", "metrics.")) for argument in arguments)]
    return function(typed(PRIMARY[name], config), *(searches if package != "cli" else []))


def script(
    name: str, *arguments: str, input: str = "", cwd: Path = ROOT, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Runs a script in a process of its own, as a user would but for the time that it takes to load torch."""
    command = [str(ROOT / "scripts" / f"{name}.py"), *arguments]
    with tempfile.TemporaryDirectory() as directory:
        pipes = [Path(directory, pipe) for pipe in ("input", "output", "errors")]
        pipes[0].write_text(input, encoding="utf-8")
        process = processes.Process(target=_start, args=(command, cwd, dict(os.environ), pipes))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout)
        _, output, errors = (path.read_text(encoding="utf-8") for path in pipes)
    return subprocess.CompletedProcess(command, process.exitcode, output, errors)


def _start(command: list[str], cwd: Path, environment: dict[str, str], pipes: list[Path]) -> None:
    """What Python does with `command`, in a process that multiprocessing has begun."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate(pipes):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    torch.set_num_threads(1)
    sys.path[0], sys.argv = str(Path(command[0]).parent), command
    runpy.run_path(command[0], run_name="__main__")
