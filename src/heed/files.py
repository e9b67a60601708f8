"""Files and directories that are written whole or not at all, by one process at a time."""

import fcntl
import logging
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)


class CannotWriteError(OSError):
    """What could not be written, and what to do."""


@contextmanager
def writing(path: Path, errors: type[Exception] = OSError) -> Iterator[None]:
    """Names `path` in the error where the system cannot write it, of which it is told by such `errors`."""
    try:
        yield
    except CannotWriteError:
        raise
    except errors as error:
        raise CannotWriteError(
            f"{path} cannot be written ({str(error).strip()[:200]}): make room, or see that the directory is there and "
            "yours; what was written before is whole"
        ) from error


def write(path: Path, save: Callable[[Path], object]) -> None:
    """Calls `save` on a temporary name, flushes to disk, renames: a crash or a full disk leaves the earlier file be.

    Raises: `OSError` that says what could not be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with writing(path, Exception):  # what a full disk makes of it depends on the library
            save(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    flush(path.parent)


def write_text(path: Path, text: str) -> None:
    """The text in UTF-8, as in `write`."""
    write(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """A new directory beside it, that takes its place at the end, or is gone where that fails.

    What a kill leaves is cleared or completed by the next call. For one process at a time: see `locked`.
    """
    restore(directory)
    new, old = directory.with_name(f".{directory.name}.new"), set_aside(directory)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        for path in (*new.rglob("*"), new):
            flush(path)
        if directory.exists():
            directory.rename(old)  # no single rename replaces a full directory
        try:
            new.rename(directory)
        except BaseException:
            if old.exists():
                old.rename(directory)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def restore(directory: Path) -> None:
    """Gives a directory its name back, where `replacing` was killed between its two renames. See `locked`."""
    if set_aside(directory).exists() and not directory.exists():
        set_aside(directory).rename(directory)


def set_aside(directory: Path) -> Path:
    """What a directory is called while `replacing` puts a new one in its place."""
    return directory.with_name(f".{directory.name}.old")


def flush(path: Path) -> None:
    """To disk: a file, or the names in a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def file_name(text: str) -> str:
    """The text without what a file system, a shell or Hydra takes for its own."""
    return re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII)


def refuse_paths(name: str) -> None:
    """`ValueError` unless it can be the name of a file, and so leads nowhere else."""
    if not re.fullmatch(r"(?!\.)[\w.+ -]{1,100}", name):
        raise ValueError(
            f"{name!r} becomes part of a file's name: letters, digits, '.', '_', '+' and '-' alone"
        )


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Within it, no other process holds the lock file `path`. However its owner ends, the system takes the lock back.

    Where another one holds it: waits, or raises `ValueError` that names the owner.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
    with file:  # never removed: another process may have it open already
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not isinstance(error, BlockingIOError):  # a file system without locks
                log.warning("%s: no lock to be had (%s); see that no other process writes there", path, error)
                yield
                return
            file.seek(0)
            owner = file.read().strip() or "another process"
            if not wait:
                raise ValueError(
                    f"{path.parent} is being written by {owner}: let it end, or stop it ({path})"
                ) from None
            log.warning("%s: waiting for %s", path, owner)
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(OSError):  # to name the owner is a courtesy, which a full disk may deny
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
