"""Checkpoints: which are kept, averaged, refused; what is left if a file is damaged or the disk is full."""

import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from heed.errors import UserError, WriteError
from heed.run.checkpoints import (
    load_state,
    load_weights,
    read_weights,
    save_state,
    save_weights,
    weight_files,
)


@pytest.mark.parametrize("keep", [1, 2, 3, 5, 10])
def test_keeps_exactly_the_last_ones(tmp_path: Path, keep: int) -> None:
    for step in range(13):
        save_weights(tmp_path, f"step-{step:08d}", torch.nn.Linear(3, 2), keep)
        kept = sorted(path.stem for path in tmp_path.iterdir())
        assert kept == [f"step-{n:08d}" for n in range(max(0, step + 1 - keep), step + 1)]


def test_weights_of_unlike_models_have_no_average(tmp_path: Path) -> None:
    for step, sizes in (1, (3000, 1)), (2, (1, 3000)):
        save_weights(tmp_path, f"step-{step}", torch.nn.Linear(*sizes))
    with pytest.raises(UserError, match=r"step-2\.safetensors is of another model than .*step-1"):
        read_weights(tmp_path, "average")


def test_damaged_state_falls_back_to_the_one_before(tmp_path: Path, caplog) -> None:
    for number in (1, 2):
        save_state(tmp_path, {"number": number, "weights": torch.ones(1000)})
    last = tmp_path / "last.safetensors"
    assert weight_files(tmp_path, "last") == [last]
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    state = load_state(tmp_path)
    assert state is not None and state["number"] == 1
    assert f"{last} is damaged" in caplog.text
    assert weight_files(tmp_path, "last") == [tmp_path / "previous.safetensors"]  # what an evaluation names
    (tmp_path / "previous.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"every training state is damaged .*last\.safetensors.*previous\.safetensors"):
        load_state(tmp_path)


@pytest.mark.parametrize("state", [True, False])
def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path: Path, state: bool) -> None:
    save_state(tmp_path, {"number": 1})
    save_weights(tmp_path, "best", torch.nn.Linear(3, 2))
    save: Callable[[], None] = lambda: save_weights(tmp_path, "best", torch.nn.Linear(300, 200))  # noqa: E731
    if state:
        save = lambda: save_state(tmp_path, {"number": 2, "weights": torch.ones(100_000)})  # noqa: E731
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # as a disk with room for 10 kB
    try:
        with pytest.raises(WriteError, match=r"cannot be written"):
            save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    found = load_state(tmp_path)
    assert found is not None and found["number"] == 1
    load_weights(torch.nn.Linear(3, 2), *read_weights(tmp_path, "best"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.safetensors", "last.safetensors"]


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save_weights(tmp_path, "best", torch.nn.Linear(3, 2))
    with pytest.raises(UserError, match=r"best.safetensors is of another model: it differs in bias, weight"):
        load_weights(torch.nn.Linear(3, 5), *read_weights(tmp_path, "best"))
    shutil.copy(tmp_path / "best.safetensors", tmp_path / "previous.safetensors")
    for name in ("step-7", "previous", "../" + tmp_path.name + "/best"):
        with pytest.raises(UserError, match=rf"{name}.safetensors: no such checkpoint; there is best"):
            read_weights(tmp_path, name)
