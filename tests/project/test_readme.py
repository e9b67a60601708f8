"""Every command in README.md and docs/ is one that there is, and those of the README do what they say."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
from helpers.models import PRIMARY, ROOT, composed
from omegaconf import OmegaConf

from heed.cli.multirun import jobs
from heed.config.components import build_corpus, build_tokenizer_settings
from heed.config.model import build_model
from heed.config.schema import train_config, typed

MAKES = (
    "MAKEFLAGS",
    "MAKEOVERRIDES",
    "MAKELEVEL",
    "MFLAGS",
    "ARGS",
    "SCORE",
    "SEED",
    "DATA",
    "DECODER",
    "RUN",
)


def readers() -> dict[str, str]:
    """The environment without the variables that the make that runs the tests hands down."""
    return {name: value for name, value in os.environ.items() if name not in MAKES}


def commands(page: Path) -> list[str]:
    """Lines of the page's `sh` blocks, and indented ones of `make`, joined at a backslash, without comments."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).split("\n") + re.findall(r"^    (?:\w+=\S+ )*make .*", text, re.MULTILINE)
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines) if line]


PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "data" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
ALL = [(page.name, command) for page in PAGES for command in commands(page)]


@pytest.mark.parametrize(("page", "command"), ALL)
def test_command_exists_and_its_configuration_composes(page: str, command: str, tmp_path: Path) -> None:
    for part in re.split(r"\s[|;]\s|&&", command):
        # What the reader fills in.
        part = re.sub(r"<\w[^<>]*\w>", "7", part.replace("<score>", "dot")).replace("…", "")
        words = shlex.split(part.split(" < ")[0].split(" > ")[0])
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)  # environment
        if words and words[0] == "make":
            dry = subprocess.run(
                ["make", "-n", "-o", ".venv/installed", *words[1:]], cwd=ROOT, env=readers(), capture_output=True,
                text=True,
            )  # fmt: skip
            assert dry.returncode == 0, dry.stderr
            lines = [line for line in dry.stdout.split("\n") if "scripts/" in line and "find " not in line]
        else:
            lines = [shlex.join(words)]
        for line in lines:
            found = re.search(r"scripts/(\w+)\.py(.*)", line)
            if not found:
                continue
            name, overrides = found[1], shlex.split(found[2])
            assert (ROOT / "scripts" / f"{name}.py").exists()
            mine = any("mine" in word.lower() or "config" in word for word in overrides)  # the example has its own test
            if name in PRIMARY and not mine and "--help" not in overrides:
                for job in jobs([word for word in overrides if word != "--multirun"]):
                    compose_and_type(name, job)


def compose_and_type(name: str, overrides: list[str]) -> None:
    config = composed(name, *overrides)
    OmegaConf.set_struct(config, False)
    if name != "train":
        config.pop("fast")  # the scripts take it before
        typed(PRIMARY[name], config)
        return
    settings = train_config(config, {})
    build_corpus(settings.data)
    with torch.device("meta"):  # weights take no memory, and no time to draw
        build_model(settings, (7, 7), build_tokenizer_settings(settings.tokenizer).joint)


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    """Run in a copy of the project. Commands that need the network or the reader's files are left out."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.split("\n")[:-1]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    left_out = ("make test", "DATA=", "make tensorboard")
    ran = 0
    for command in commands(ROOT / "README.md"):
        if any(part in command for part in left_out):
            continue
        command = command.replace("make ", "make -o .venv/installed ", 1)
        environment = readers() | {"PYTHONPATH": str(tmp_path / "src")}
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=900,
            env=environment,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        if command.endswith("SCORE=bahdanau"):
            bleu = re.search(r"^BLEU +([\d.]+)", done.stdout, re.MULTILINE)
            assert bleu and float(bleu[1]) >= 90, done.stdout
        ran += 1
    assert ran >= 6
