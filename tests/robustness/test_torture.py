"""A few of the attacks of `make torture`: kills, and damaged files."""

import ast
import random
from importlib import import_module
from pathlib import Path

import pytest
from torture import Killer, torture_by_rot, torture_outputs, torture_training


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("torture")


@pytest.fixture(scope="module")
def killer(directory: Path) -> Killer:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed of the attacks: {seed}")
    return Killer(directory, seed)


def test_training_that_is_killed_and_resumed_ends_as_if_never_killed(killer: Killer, directory: Path) -> None:
    torture_training(killer, directory / "kills", 4)
    assert killer.kills.total() >= 4


def test_outputs_are_complete_or_absent(killer: Killer, directory: Path) -> None:
    torture_outputs(killer, directory / "outputs", 1)


def test_damaged_files_are_noticed(killer: Killer, directory: Path) -> None:
    counts = torture_by_rot(killer, directory / "outputs", 40)
    assert counts["refused"] > 13


def test_the_fuzzer_finds_what_it_imports() -> None:
    """It is run by hand, with a package that is not installed for the tests."""
    tree = ast.parse(Path(__file__).with_name("fuzz.py").read_text(encoding="utf-8"))
    imports = [one for one in ast.walk(tree) if isinstance(one, ast.ImportFrom) and str(one.module).startswith("heed")]
    assert imports
    for one in imports:
        module = import_module(str(one.module))
        for alias in one.names:
            assert hasattr(module, alias.name) or import_module(f"{one.module}.{alias.name}")
