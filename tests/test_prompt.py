"""`translate` on a terminal: a prompt that draws the alignment."""

import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tiny import ROOT, overrides, script


def test_prompt_translates_and_draws(tmp_path: Path) -> None:
    assert script("train", *overrides(tmp_path), f"run={tmp_path / 'run'}").returncode == 0
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "scripts/translate.py", f"run={tmp_path / 'run'}"],
        cwd=ROOT, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(terminal)
    os.write(controller, b"ene mene muh\n\x04")
    out = b""
    with suppress(OSError):  # what reading gives once the other side is closed
        while chunk := os.read(controller, 4096):
            out += chunk
    os.close(controller)
    assert process.wait(timeout=60) == 0, process.stderr and process.stderr.read()
    text = out.decode()
    assert "> " in text
    assert any(shade in text for shade in "░▒▓█·")
    assert "</s>" in text
