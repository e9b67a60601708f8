"""Translate a user's lines, through a pipe or at a prompt."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from queue import Empty, Queue
from threading import Thread

from heed.alignment.heatmap import terminal_heatmap
from heed.cli.output import quiet_on_closed_pipe
from heed.data.lines import decode_lines
from heed.search.translator import Translation, Translator
from heed.text.printable import printable


def pipe(translator: Translator, buffer: int, log_probs: bool) -> None:
    """Translate standard input to standard output, line by line, at most `buffer` lines together."""
    # Not `sys.stdin`: the thread that waits for a line would still hold its lock when Python ends.
    lines = open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115
    with quiet_on_closed_pipe():
        for chunk in arriving(decode_lines(lines.readline, "standard input"), buffer):
            for n_best in translator.translate(chunk):
                sys.stdout.buffer.write((format_line(n_best, log_probs) + "\n").encode())
            sys.stdout.buffer.flush()


def arriving(lines: Iterable[str], most: int) -> Iterator[list[str]]:
    """Yield the lines that have arrived, at most so many together: fast for a file, prompt for a pipe."""
    waiting: Queue[str | BaseException | None] = Queue(maxsize=most)

    def read() -> None:
        try:
            for line in lines:
                waiting.put(line)
            waiting.put(None)
        except BaseException as error:
            waiting.put(error)

    Thread(target=read, daemon=True).start()
    while True:
        chunk = [waiting.get()]
        while len(chunk) < most and isinstance(chunk[-1], str):
            try:
                chunk.append(waiting.get_nowait())
            except Empty:
                break
        arrived = [line for line in chunk if isinstance(line, str)]
        if arrived:
            yield arrived
        if isinstance(chunk[-1], BaseException):
            raise chunk[-1]
        if chunk[-1] is None:
            return


def prompt(translator: Translator, log_probs: bool) -> None:
    """Prompt for lines until the end of input. Translate each, and draw its alignment."""
    with suppress(ImportError):
        import readline  # noqa: F401  (line editing, if the system has it)
    with suppress(AttributeError):  # not every standard input is a file
        sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # strict in most locales
    while True:
        try:
            line = input("> ")
        except EOFError:
            print()
            return
        line = line.encode(errors="surrogateescape").decode(errors="replace")  # bytes that are not UTF-8
        n_best = translator.translate([line])[0]
        # `printable`: a model may spell sequences that move the cursor.
        print(printable(format_line(n_best, log_probs).replace("\t", "    ")))
        print(terminal_heatmap(n_best[0].pieces, n_best[0].src_pieces, n_best[0].alignment))


def format_line(n_best: Sequence[Translation], log_probs: bool) -> str:
    """Return the translations of a line, separated by tabs, each after its log-probability and a tab if asked for."""
    cells = ([f"{one.log_prob:.4f}", one.text] if log_probs else [one.text] for one in n_best)
    return "\t".join(cell.replace("\t", " ") for row in cells for cell in row)
