"""Disks that are full, read-only or gone: a clear error, what was saved stays whole, and there is a way on."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_training import assert_same, make
from helpers.runs import ROOT, command, overrides, script
from torture import check_run

MORE = ["training.save_every=4", "training.keep=1", "training.num_samples=1", "training.precision=fp32"]


def with_room(size: int, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a script no file of which can pass so many bytes, as on a disk without more room."""
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )


@pytest.mark.slow
def test_a_file_without_room_ends_training_in_words_and_room_lets_it_go_on(tmp_path: Path) -> None:
    arguments = [*overrides(tmp_path), *MORE]
    command("train", *arguments, f"run={tmp_path / 'whole'}")
    run = tmp_path / "run"
    sizes = sorted({path.stat().st_size for path in (tmp_path / "whole").rglob("*") if path.is_file()})
    rest = [*arguments, f"run={run}"]
    step, errors = -1, set()
    # Room for ever more of the files: each time training gets further, or dies at the next file.
    for size in (1, sizes[len(sizes) // 4], sizes[len(sizes) // 2], 3 * sizes[-1] // 4, sizes[-1] - 1):
        done = with_room(size, "train", *rest)
        assert done.returncode == 2 and "Traceback" not in done.stderr, (size, done.stderr)
        assert "error: " in done.stderr and str(tmp_path) in done.stderr.partition("error: ")[2], done.stderr
        errors.add(done.stderr.partition("error: ")[2].partition(" ")[0])
        step = check_run(run, step)
    assert len(errors) > 1, errors
    command("train", *rest)
    assert_same(tmp_path / "whole", run)


SPACE = """
set -e
mount -t tmpfs -o size={size}k tmpfs {run}
cd {root}
{python} scripts/train.py {arguments} && exit 3
test $? = 2
mount -o remount,size=100m {run}
{python} scripts/train.py {arguments}
mount -o remount,ro {run}
{python} scripts/evaluate.py run={run} split=val && exit 4
test $? = 2
cp -r {run} {copy}
"""


def test_a_full_disk_and_a_read_only_one(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no disk of its own to be had: this system has no user namespaces")
    arguments = [*overrides(tmp_path), *MORE]
    command("train", *arguments, f"run={tmp_path / 'whole'}")
    run, copy = tmp_path / "run", tmp_path / "copy"
    run.mkdir()
    program = SPACE.format(
        size=64,
        run=run,
        copy=copy,
        root=ROOT,
        python=sys.executable,
        arguments=" ".join([*arguments, f"run={run}"]),
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", program],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.split("\n") if line.startswith("error: ")]
    assert len(errors) == 2 and "No space left on device" in errors[0] and str(run) in errors[0], errors
    assert "Read-only file system" in errors[1] and str(run) in errors[1], errors
    assert_same(tmp_path / "whole", copy)


def test_a_directory_that_vanishes_is_told_and_does_not_come_back_as_half_a_run(
    tmp_path: Path, monkeypatch
) -> None:
    trainer = make(tmp_path, "run", "training.save_every=4")
    update = trainer._update

    def vanishing(batches):  # type: ignore[no-untyped-def]
        update(batches)
        if trainer.step == 6:
            shutil.rmtree(tmp_path / "run")

    monkeypatch.setattr(trainer, "_update", vanishing)
    with pytest.raises(OSError, match=rf"{tmp_path / 'run'}.* cannot be written .* directory is there"):
        trainer.train()
    trainer.monitor.file.close()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("size", [1, 300, 1500])
def test_preparing_without_room_leaves_nothing(tmp_path: Path, size: int) -> None:
    arguments = overrides(tmp_path)
    done = with_room(size, "prepare", *arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert str(tmp_path / "data") in done.stderr.partition("error: ")[2], done.stderr
    assert [path.name for path in (tmp_path / "data").iterdir()] in ([], [".lock"])
    assert script("prepare", *arguments).returncode == 0
