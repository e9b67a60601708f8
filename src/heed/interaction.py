"""A user's lines to translations: through a pipe or at a prompt."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from queue import Empty, Queue
from threading import Thread

from heed.data.reading import decode_lines
from heed.evaluation.heatmap import terminal_heatmap
from heed.search.translator import Translation, Translator
from heed.signals import ending_with_its_reader
from heed.text.tokenizer import printable


def pipe(translator: Translator, buffer: int, scores: bool) -> None:
    """Standard input to standard output, a line for each; at most `buffer` of them translated together."""
    # Not `sys.stdin`, whose lock the thread that waits for a line would still hold when Python ends.
    lines = open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115
    with ending_with_its_reader():
        for chunk in arriving(decode_lines(lines.readline, "standard input"), buffer):
            for best in translator.translate(chunk):
                sys.stdout.buffer.write((one_line(best, scores) + "\n").encode())
            sys.stdout.buffer.flush()


def arriving(lines: Iterable[str], most: int) -> Iterator[list[str]]:
    """The lines that are there, at most so many at a time, waiting for one: fast on a file, prompt on a pipe."""
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
        there = [line for line in chunk if isinstance(line, str)]
        if there:
            yield there
        if isinstance(chunk[-1], BaseException):
            raise chunk[-1]
        if chunk[-1] is None:
            return


def prompt(translator: Translator, scores: bool) -> None:
    """Asks for lines until the end of input; translates and draws each."""
    with suppress(ImportError):
        import readline  # noqa: F401  (line editing, where the system has it)
    with suppress(AttributeError):  # it may be no file
        sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # strict in most locales
    while True:
        try:
            line = input("> ")
        except EOFError:
            print()
            return
        line = line.encode(errors="surrogateescape").decode(errors="replace")  # bytes that are not UTF-8
        best = translator.translate([line])[0]
        print(
            printable(one_line(best, scores).replace("\t", "    "))
        )  # a model may spell what moves the cursor
        print(terminal_heatmap(best[0].pieces, best[0].src_pieces, best[0].alignment))


def one_line(best: Sequence[Translation], scores: bool) -> str:
    """The n-best translations of a line, separated by tabs, each after its log-probability and a tab if `scores`."""
    cells = ([f"{one.log_prob:.4f}", one.text] if scores else [one.text] for one in best)
    return "\t".join(cell.replace("\t", " ") for row in cells for cell in row)
