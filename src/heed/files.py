"""Files that are written whole or not at all, and by one process at a time."""

import fcntl
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


def write(path: Path, save: Callable[[Path], object]) -> None:
    """Calls `save` on a temporary name, flushes to disk, renames: a crash or a full disk leaves the earlier file be.

    Raises: `OSError` that says what could not be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        save(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:  # what a full disk makes of it depends on the library
        temporary.unlink(missing_ok=True)
        raise OSError(
            f"{path} cannot be written ({str(error).strip()[:200]}): make room, or see that the directory is yours; "
            "what was there before is whole"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


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
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
