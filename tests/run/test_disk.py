"""Disks that are full, read-only or gone: a clear error, intact checkpoints, and a way to continue."""

import ctypes
import os
import resource
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
from helpers.runs import ROOT, command, config, overrides, processes, run_script, script
from helpers.training import assert_same, check_run, make

from heed.cli.prepare import prepare
from heed.errors import WriteError

MORE = ["training.save_every=4", "training.keep=1", "training.num_samples=1", "training.precision=fp32"]
NEW_USERS, NEW_MOUNTS = 0x10000000, 0x00020000  # of linux/sched.h
READ_ONLY, REMOUNT = 1, 32  # of linux/mount.h


def limit(size: int) -> partial[None]:
    """Return a call that lets no file of a process grow above so many bytes, as on a disk without more room."""
    return partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.slow
def test_a_full_disk_ends_training_with_advice_and_with_room_it_continues(tmp_path: Path) -> None:
    arguments = [*overrides(tmp_path), *MORE]
    command("train", *arguments, f"run={tmp_path / 'whole'}")
    run = tmp_path / "run"
    sizes = sorted({path.stat().st_size for path in (tmp_path / "whole").rglob("*") if path.is_file()})
    rest = [*arguments, f"run={run}"]
    step, errors = -1, set()
    # With room for more and more of the files, training gets further each time, or fails at the next file.
    for size in (1, sizes[len(sizes) // 4], sizes[len(sizes) // 2], 3 * sizes[-1] // 4, sizes[-1] - 1):
        done = script("train", *rest, before=limit(size))
        assert done.returncode == 2 and "Traceback" not in done.stderr, (size, done.stderr)
        assert "error: " in done.stderr and str(tmp_path) in done.stderr.partition("error: ")[2], done.stderr
        errors.add(done.stderr.partition("error: ")[2].partition(" ")[0])
        step = check_run(run, step)
    assert len(errors) > 1, errors
    command("train", *rest)
    assert_same(tmp_path / "whole", run)


def mount(directory: Path, options: int, size: str = "") -> None:
    """Mount a disk in memory, or mount it again with other options."""
    libc = ctypes.CDLL(None, use_errno=True)
    given = (b"tmpfs", str(directory).encode(), b"tmpfs", ctypes.c_ulong(options), size.encode())
    if libc.mount(*given):
        raise OSError(ctypes.get_errno(), "mount")


def status_of(*arguments: str) -> int:
    """Run a script in this process. Returns its exit status."""
    try:
        run_script([str(ROOT / "scripts" / f"{arguments[0]}.py"), *arguments[1:]])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def on_a_small_disk(run: Path, copy: Path, errors: Path, arguments: list[str]) -> None:
    """Train on a disk that becomes full, continue with room, evaluate while it is read-only. In a new process."""
    users = os.getuid(), os.getgid()
    if ctypes.CDLL(None).unshare(NEW_USERS | NEW_MOUNTS):
        sys.exit(77)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {users[0]} 1")
    Path("/proc/self/gid_map").write_text(f"0 {users[1]} 1")
    mount(run, 0, "size=64k")
    sys.stdout, sys.stderr = open(os.devnull, "w"), open(errors, "w")  # noqa: SIM115
    os.chdir(ROOT)
    assert status_of("train", *arguments) == 2
    mount(run, REMOUNT, "size=100m")
    assert status_of("train", *arguments) == 0
    mount(run, REMOUNT | READ_ONLY)
    assert status_of("evaluate", f"run={run}", "split=val") == 2
    shutil.copytree(run, copy)


def test_a_full_disk_and_a_read_only_disk(tmp_path: Path) -> None:
    arguments = [*overrides(tmp_path), *MORE]
    command("train", *arguments, f"run={tmp_path / 'whole'}")
    run, copy, errors = (tmp_path / name for name in ("run", "copy", "errors"))
    run.mkdir()
    process = processes.Process(target=on_a_small_disk, args=(run, copy, errors, [*arguments, f"run={run}"]))
    process.start()
    process.join(200)
    if process.exitcode == 77:
        pytest.skip("no disk can be mounted: this system has no user namespaces")
    assert process.exitcode == 0, errors.read_text()
    shown = errors.read_text(encoding="utf-8")
    assert "Traceback" not in shown
    full, read_only = (line for line in shown.split("\n") if line.startswith("error: "))
    assert "No space left on device" in full and str(run) in full
    assert "Read-only file system" in read_only and str(run) in read_only
    assert_same(tmp_path / "whole", copy)


# TensorBoard's thread fails too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_directory_that_vanishes_is_reported_and_half_a_run_does_not_appear_in_its_place(
    tmp_path: Path, monkeypatch
) -> None:
    trainer = make(tmp_path, "run", "training.save_every=4")
    update = trainer.update

    def vanishing(batches) -> int:  # type: ignore[no-untyped-def]
        tokens = update(batches)
        if trainer.step == 6:
            shutil.rmtree(tmp_path / "run")
        return tokens

    monkeypatch.setattr(trainer, "update", vanishing)
    with pytest.raises(WriteError, match=rf"{tmp_path / 'run'}.* cannot be written .* its directory exists"):
        trainer.train()
    trainer.monitor.file.close()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("size", [1, 300, 1500])
def test_preparing_without_room_leaves_nothing(tmp_path: Path, size: int) -> None:
    arguments = overrides(tmp_path)
    done = script("prepare", *arguments, before=limit(size))
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert str(tmp_path / "data") in done.stderr.partition("error: ")[2], done.stderr
    assert [path.name for path in (tmp_path / "data").iterdir()] in ([], [".lock"])
    assert prepare(config(tmp_path)).stats["train"]["kept"] == 60
