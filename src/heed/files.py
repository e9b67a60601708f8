"""Files that are written whole or not at all, tell when they have changed, and are one process's at a time."""

import fcntl
import hashlib
import json
import logging
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

FORMAT = 1
"""Of every file that heed reads again; to be raised when an older heed would misread one."""
BLANK = "0" * 64
"""Where a file's seal will stand."""
SEAL = re.compile(rb"sha256[\\\": ]+([0-9a-f]{64})")
HEAD = 1 << 12  # bytes: a seal stands in the first of them
LONGEST_TEXT = 1 << 27  # bytes of a JSON or YAML file: parsed, they take many times as much
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
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def seal(path: Path) -> None:
    """Puts the file's SHA-256 (taken with BLANK in its place) where BLANK stands first."""
    with open(path, "r+b") as file:
        place = file.read(HEAD).index(BLANK.encode())
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(place)
        file.write(digest.encode())


def check_seal(path: Path) -> None:
    """`ValueError` where the file is not what `seal` left: rotten, cut, edited, or never sealed."""
    with open(path, "rb") as file:
        found = SEAL.search(head := file.read(HEAD))
        if found:
            digest = hashlib.sha256(head[: found.start(1)] + BLANK.encode())
            file.seek(found.end(1))
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    if not found or digest.hexdigest().encode() != found[1]:
        raise ValueError(
            f"{path} is damaged or was edited: its contents do not have the SHA-256 that it names"
        )


def check_format(path: Path, number: object) -> None:
    """`ValueError` unless this version of heed reads files of that format."""
    if number != FORMAT:
        raise ValueError(
            f"{path} has format {number!r}, but this version of heed reads {FORMAT}: use the one that wrote it"
        )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes it with its format and its seal, for `read_json`."""
    text = json.dumps(
        {"format": FORMAT, "sha256": BLANK, **content}, ensure_ascii=False, indent=2, allow_nan=False
    )

    def save(temporary: Path) -> None:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")
        seal(temporary)

    write(path, save)


def read_json(path: Path) -> dict[str, Any]:
    """Reads what `write_json` wrote; `ValueError` where it is missing, damaged, of another format, or far too large."""
    check_text(path)
    try:
        content = json.loads(path.read_bytes())
        check_format(path, content.pop("format"))
        del content["sha256"]
    except (KeyError, AttributeError, TypeError, RecursionError) as error:  # sealed, but not by heed
        raise ValueError(f"{path} is no file of heed ({error!r})") from None
    return content


def check_text(path: Path) -> None:
    """`ValueError` where a sealed text is missing, damaged, or far too large."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.stat().st_size > LONGEST_TEXT:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes: heed wrote no such file")
    check_seal(path)


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of each file in it, by name."""
    return {path.name: sha256(path) for path in sorted(directory.iterdir()) if path.is_file()}


def sha256(path: Path) -> str:
    """In hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digests(directory: Path, known: dict[str, str], names: Iterable[str]) -> None:
    """`ValueError` that names the first of these files of the directory that does not have its `known` SHA-256."""
    for name in names:
        path = directory / name
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        if known.get(name) != sha256(path):
            raise ValueError(
                f"{path} is damaged or was changed: it does not have the SHA-256 noted when it was made"
            )


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
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(
        path, "a+", encoding="utf-8"
    ) as file:  # never removed: another process may have it open already
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
