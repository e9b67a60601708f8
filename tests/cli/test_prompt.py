"""`translate` on a terminal: a prompt that draws the alignment."""

import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from helpers.runs import ROOT, command, overrides

from heed.cli.interactive import prompt
from heed.search.translator import EMPTY


def test_prompt_translates_and_draws(tmp_path: Path) -> None:
    command("train", *overrides(tmp_path), f"run={tmp_path / 'run'}")
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "scripts/translate.py", f"run={tmp_path / 'run'}"],
        cwd=ROOT, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},  # as in most locales
    )  # fmt: skip
    os.close(terminal)
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
    assert process.wait(timeout=60) == 0, process.stderr and process.stderr.read()
    os.close(controller)
    assert any(shade in shown for shade in "░▒▓█·")
    assert "</s>" in shown


def test_bytes_that_are_no_utf8_are_shown_as_lost_characters(monkeypatch) -> None:
    """What a terminal of another encoding sends, `input` hands on as half a pair of surrogates."""
    typed = iter(["caf\udce9 noir"])
    seen = []

    def ask(_: str) -> str:
        for line in typed:
            return line
        raise EOFError

    monkeypatch.setattr("builtins.input", ask)
    prompt(SimpleNamespace(translate=lambda lines: seen.extend(lines) or [[EMPTY]]), scores=False)  # type: ignore[arg-type]
    assert seen == ["caf\ufffd noir"]
