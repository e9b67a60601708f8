"""Locks between processes."""

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from heed.errors import UserError
from heed.files.atomic import writing

log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path`. The system releases the lock when its owner ends, however it ends.

    If another process holds the lock: wait for it, or raise `UserError` that names the owner.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
    with file:  # never removed: another process may have it open already
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                log.warning("%s: the file system has no locks (%s); let no other process write there", path, error)
                yield
                return
            file.seek(0)
            owner = file.read().strip() or "another process"
            if not wait:
                raise UserError(f"{path.parent} is being written by {owner}: let it end, or stop it ({path})") from None
            log.warning("%s: waiting for %s", path, owner)
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(OSError):  # on a full disk the lock has no owner's name, and works all the same
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
