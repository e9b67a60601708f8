"""Standard output that may be closed or full."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from heed.errors import WriteError


@contextmanager
def quiet_on_closed_pipe() -> Iterator[None]:
    """End without an error if the reader of standard output has closed it, as `| head` does. Report a full disk."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG):  # an error of reading, not of writing
            raise
        discard_stdout()
        raise WriteError(
            f"standard output cannot be written ({error}): make room, and continue after its last line"
        ) from error


def discard_stdout() -> None:
    """Send what is yet to be flushed at exit to the null device: to write it would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
