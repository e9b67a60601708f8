"""Trained runs that the tests of the commands share."""

from pathlib import Path

import pytest
from helpers.runs import command, overrides, script

OTHER = (
    "search.width=3",
    "search.alpha=0",
    "metrics.lowercase=true",
    "metrics.tokenize=none",
    "test_split=val",
)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained by the script."""
    directory = tmp_path_factory.mktemp("commands")
    done = script("train", *overrides(directory), f"run={directory / 'run'}")
    assert done.returncode == 0, done.stderr
    assert "BLEU" in done.stdout and "|tok:13a|" in done.stdout
    assert f"report: {directory / 'run' / 'eval' / 'test-beam' / 'report.md'}" in done.stdout
    return directory / "run"


@pytest.fixture(scope="session")
def other(run: Path) -> Path:
    """A run with an own search, own metrics and an own test split. Its training checks all shapes."""
    path = run.parent / "other"
    command("train", *overrides(run.parent), f"run={path}", "training.max_epochs=1", *OTHER, checked=True)
    return path
