"""Signals that ask a process to stop."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

INTERRUPTED = 130  # exit status of an interrupted command, as a shell reports Ctrl-C


def stopping_signals() -> list[signal.Signals]:
    """Return SIGINT (Ctrl-C), SIGTERM (`kill`) and, unless nohup has it ignored, SIGHUP (a closed terminal)."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns True once a stopping signal has come. A second signal acts as usual."""
    caught: list[int] = []
    before: dict[int, Any] = {}

    def handle(number: int, frame: object) -> None:
        caught.append(number)
        for received, handler in before.items():
            # A closed terminal sends SIGHUP more than once.
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
