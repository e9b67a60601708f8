"""What asks a process to stop, and how it is heard."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from heed.files import CannotWriteError

INTERRUPTED = 130  # the exit status of what was stopped, as a shell gives it for Ctrl-C


def stopping_signals() -> list[signal.Signals]:
    """What asks a process to stop: Ctrl-C, `kill`, and a terminal that is closed (unless by nohup that is ignored)."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within it, the first signal to stop only makes the given function answer True; a second one acts as ever."""
    caught: list[int] = []
    before: dict[int, Any] = {}

    def handle(number: int, frame: object) -> None:
        caught.append(number)
        for received, handler in before.items():
            # A terminal that is closed says so more than once.
            signal.signal(received, signal.SIG_IGN if received == signal.SIGHUP else handler)
        with suppress(OSError):
            print("\nstopping after this step; once more to stop at once, unsaved", file=sys.stderr)

    for caught_signal in stopping_signals():
        before[caught_signal] = signal.signal(caught_signal, handle)
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ending_with_its_reader() -> Iterator[None]:
    """Ends in peace where whoever reads standard output has had enough, as in `| head`; a full disk is told."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        write_no_more()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG):  # of what is read
            raise
        write_no_more()
        raise CannotWriteError(
            f"standard output cannot be written ({error}): make room, and go on from the last line that is there"
        ) from error


def write_no_more() -> None:
    """Gives what is yet to be flushed to standard output at exit, which would fail again, somewhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
