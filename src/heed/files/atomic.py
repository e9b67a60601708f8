"""Files and directories that are written completely or not at all, and errors that name them."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from heed.errors import UserError, WriteError


@contextmanager
def writing(path: Path, errors: type[Exception] = OSError) -> Iterator[None]:
    """Turn `errors` inside the block into a `WriteError` that names `path`."""
    try:
        yield
    except WriteError:
        raise
    except errors as error:
        raise WriteError(
            f"{path} cannot be written ({str(error).strip()[:200]}). Make room, or check that its directory exists "
            "and that you may write there; earlier files are intact"
        ) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an `OSError` inside the block into a `UserError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}). Check that it exists and that you may read it") from error


def write(path: Path, save: Callable[[Path], object]) -> None:
    """Call `save` with a temporary path, flush the file to disk, then rename it to `path`.

    A crash or a full disk leaves the earlier file intact. Raises `WriteError` if writing fails.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with writing(path, Exception):  # libraries raise different exceptions for a full disk
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
    """Write the text as UTF-8, as `write` does."""
    write(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """Yield a new directory, which takes the place of `directory` at the end, or is removed on failure.

    The next call finishes or removes what a killed process left. Only one process at a time may do this: see `locked`.
    """
    restore(directory)
    new, old = directory.with_name(f".{directory.name}.new"), backup_of(directory)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        for path in (*new.rglob("*"), new):
            flush(path)
        if directory.exists():
            directory.rename(old)  # no single rename replaces a directory that has files
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
    """Rename the backup to `directory` if `replacing` was killed between its two renames. See `locked`."""
    if backup_of(directory).exists() and not directory.exists():
        backup_of(directory).rename(directory)


def backup_of(directory: Path) -> Path:
    """Return the name of a directory while `replacing` puts a new one in its place."""
    return directory.with_name(f".{directory.name}.old")


def flush(path: Path) -> None:
    """Flush a file, or the names in a directory, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
