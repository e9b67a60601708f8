"""`translate`, through a pipe and at a prompt."""

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.runs import ROOT, Started, command, script

from heed.cli.interactive import arriving, format_line, prompt
from heed.errors import UserError
from heed.search.translator import EMPTY, Translation

GOLDEN = ROOT / "tests" / "run" / "golden_runs" / "format1"
RUN = GOLDEN / "gru-word"


def translated(lines: str, *arguments: str, checked: bool = False) -> str:
    """Return what `translate` writes for these lines, in this process."""
    with tempfile.TemporaryFile() as given, pytest.MonkeyPatch.context() as patch:
        given.write(lines.encode())
        given.flush()
        given.seek(0)
        patch.setattr(sys, "stdin", SimpleNamespace(fileno=given.fileno, isatty=lambda: False))
        with redirect_stdout(io.TextIOWrapper(io.BytesIO())) as out:
            command("translate", *arguments, checked=checked)
        return out.buffer.getvalue().decode()


def test_a_line_comes_out_for_each_line(run: Path) -> None:
    lines = "\n".join(
        [
            "ene mene",
            "",
            "   ",
            "völlig unbekannt\u2028immer noch dieselbe Zeile",
            "raus\r",
            "x" * 3000,
            "und du",
        ]
    )
    done = script("translate", f"run={run}", "buffer=3", input=lines)
    assert done.returncode == 0, done.stderr
    translations = done.stdout.split("\n")
    assert len(translations) == 8 and translations[-1] == ""
    assert translations[1] == translations[2] == ""
    assert translated(lines, f"run={run}", "buffer=1", checked=True) == done.stdout


def test_search_is_that_of_the_run_unless_given(other: Path) -> None:
    def n_best(*arguments: str) -> str:
        return translated("ene mene muh\n", f"run={other}", "log_probs=true", *arguments)

    found = n_best("search.n_best=3")
    assert found == n_best("search=beam", "search.n_best=3", "search.width=3", "search.alpha=0")
    cells = found.rstrip("\n").split("\t")
    assert len(cells) == 6 and all(float(cell) <= 0 for cell in cells[::2])
    assert n_best("search=greedy").count("\t") == 1


def test_an_ensemble_needs_one_vocabulary() -> None:
    with pytest.raises(UserError, match="different tokenizers: an ensemble needs one vocabulary"):
        command("translate", f"run=[{RUN},{GOLDEN / 'gru-char'}]")


def test_closed_streams_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout"):
        with monkeypatch.context() as patch:
            patch.setattr(sys, name, None)
            with pytest.raises(UserError, match=f"standard {name[3:]}put is closed"):
                command("translate", f"run={RUN}")


def test_lines_are_given_as_they_arrive() -> None:
    def source(num: int, fails: bool = False) -> Iterator[str]:
        for line in range(num):
            yield str(line)
        if fails:
            raise ValueError("line 3")

    chunks = list(arriving(source(11), 4))
    assert [line for chunk in chunks for line in chunk] == [str(line) for line in range(11)]
    assert all(1 <= len(chunk) <= 4 for chunk in chunks)
    got = []
    with pytest.raises(ValueError, match="line 3"):
        for chunk in arriving(source(3, fails=True), 2):
            got += chunk
    assert got == ["0", "1", "2"], "lines before the bad one are not lost"


def test_a_tab_in_a_translation_separates_no_columns() -> None:
    best = [Translation("a\tb", -1.0, [], [], np.zeros((0, 0)))] * 2
    assert format_line(best, log_probs=True) == "-1.0000\ta b\t-1.0000\ta b"


def test_it_ends_quietly_when_its_reader_does() -> None:
    """`yes 'ene mene' | scripts/translate.py … | head -n 3` prints no error."""
    reader, writer = os.pipe()
    errors, end = os.pipe()
    with subprocess.Popen(["yes", "ene mene"], stdout=subprocess.PIPE) as endless:
        assert endless.stdout
        streams = (endless.stdout.fileno(), writer, end)
        with Started("translate", f"run={RUN}", "buffer=2", streams=streams) as started:
            os.close(writer), os.close(end), endless.stdout.close()
            with open(reader, encoding="utf-8") as file:
                assert all(file.readline().endswith("\n") for _ in range(3))
            assert started.wait(60) == 0
        endless.kill()
    with open(errors, encoding="utf-8") as file:
        assert file.read() == ""


def test_a_full_disk_is_reported_in_a_line() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"ene\n" * 3)
    os.close(writer)
    errors, end = os.pipe()
    full = os.open("/dev/full", os.O_WRONLY)
    with Started("translate", f"run={RUN}", streams=(reader, full, end)) as started:
        for number in (reader, full, end):
            os.close(number)
        assert started.wait(60) == 2
    with open(errors, encoding="utf-8") as file:
        shown = file.read()
    assert shown.startswith("error: standard output cannot be written (") and shown.count("\n") == 1


@pytest.mark.usefixtures("heard_signals")
def test_it_answers_at_once_and_ends_at_once_while_it_waits_for_a_line() -> None:
    """The thread that waits for the next line must not keep Python from ending, or crash it: in real processes."""
    command = [sys.executable, "scripts/translate.py", f"run={RUN}"]
    for ends, status in (("reader", 0), ("ctrl-c", 130)):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with subprocess.Popen(command, cwd=ROOT, **pipes) as process:  # type: ignore[call-overload]
            for line in (b"ene mene\n", b"\n", b"muh\n"):
                process.stdin.write(line)
                process.stdin.flush()
                assert process.stdout.readline().endswith(b"\n")
            if ends == "reader":
                process.stdout.close()
                process.stdin.write(b"muh\n")
                process.stdin.flush()
            else:
                process.send_signal(signal.SIGINT)
            assert process.wait(20) == status, ends
            assert process.stderr.read() == (b"interrupted\n" if status else b"")
            process.stdin.close()


def test_a_prompt_translates_and_draws() -> None:
    controller, terminal = pty.openpty()
    errors, end = os.pipe()
    with Started("translate", f"run={RUN}", streams=(terminal, terminal, end)) as started:
        os.close(terminal), os.close(end)
        shown = ""
        for awaited, typed in (
            (r"> ", b"ene mene m\xfch\n"),  # as a terminal of another encoding sends it
            (r"\n\S*> $", b"\x04"),
        ):  # a person waits for the prompt too
            while not re.search(awaited, shown):
                ready, _, _ = select.select([controller], [], [], 60)
                assert ready, f"no {awaited!r} after: {shown}"
                shown += os.read(controller, 4096).decode(errors="replace")
            os.write(controller, typed)
        status = started.wait(60)
        with open(errors, encoding="utf-8") as file:
            assert status == 0, file.read()
    os.close(controller)
    assert any(shade in shown for shade in "░▒▓█·")
    assert "</s>" in shown


def test_bytes_that_are_not_utf8_become_replacement_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """`input` returns bytes of a terminal with another encoding as lone surrogates."""
    typed = iter(["caf\udce9 noir"])
    seen: list[str] = []

    def ask(_: str) -> str:
        for line in typed:
            return line
        raise EOFError

    monkeypatch.setattr("builtins.input", ask)
    translator: Any = SimpleNamespace(translate=lambda lines: seen.extend(lines) or [[EMPTY]])
    prompt(translator, log_probs=False)
    assert seen == ["caf\ufffd noir"]
