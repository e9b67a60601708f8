"""Finished runs are read, and translate as they did when they were written.

Each directory below tests/run/golden_runs/ is such a run, with its translations of LINES.
To write them for a new format:

    HEED_WRITE_GOLDEN=1 python -m pytest tests/run/test_golden_runs.py
"""

import os
import shutil
from pathlib import Path

import pytest
import torch
from helpers.runs import overrides, script, write_corpus

from heed.files.checksums import FORMAT
from heed.run.checkpoints import load_state
from heed.run.directory import Run
from heed.run.loading import load_run
from heed.search.translator import Translator

GOLDEN = Path(__file__).with_name("golden_runs")
KEPT = (
    "config.yaml",
    "corpus.json",
    "training.json",
    "metrics.jsonl",
    "tokenizer*.model",
    "checkpoints/best.*",
)
STATE = "gru-word"  # its last training state is kept too
LINES = ["ene mene muh", "und raus bist du", "du", "", "bist du raus und muh ene", "ene niemals mene"]
KINDS = {
    "gru-word": ("tokenizer=word", "tokenizer.min_frequency=1", "score=bahdanau", "decoder=luong"),
    "lstm-sentencepiece": (
        "tokenizer=sentencepiece", "subwords.vocab_size=290", "subwords.model_type=bpe", "score=dot",
        "decoder=bahdanau", "model.cell=lstm", "model.tie=three",
    ),
    "gru-char": (
        "tokenizer=char", "tokenizer.byte_fallback=false", "tokenizer.joint=false", "score=general", "model.tie=two"
    ),
}  # fmt: skip
WRITTEN = (
    *("data=files", "data.source=corpus", "data_dir=data", "run=run"),
    *("model.embedding_dim=16", "model.encoder_dim=10", "model.decoder_dim=20", "model.dropout=0"),
    *("training.max_epochs=120", "training.learning_rate=0.01", "training.precision=fp32"),
    *("training.validate_every=200", "training.log_every=200", "metrics.bootstrap=0"),
)


def translations(run: Path) -> list[str]:
    model, tokenizers, _ = load_run(run, "best")
    settings = Run(run).config().search
    return [best[0].text for best in Translator([model], tokenizers, settings).translate(LINES)]


@pytest.mark.skipif("HEED_WRITE_GOLDEN" not in os.environ, reason="writes the golden runs of this format")
@pytest.mark.parametrize("kind", KINDS)
def test_write(tmp_path: Path, kind: str) -> None:
    write_corpus(tmp_path / "corpus")
    tiny = [one for one in overrides(tmp_path) if not one.startswith(("tokenizer", "data"))]
    done = script("train", *tiny, *KINDS[kind], *WRITTEN, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    to = GOLDEN / f"format{FORMAT}" / kind
    shutil.rmtree(to, ignore_errors=True)
    kept = (*KEPT, "checkpoints/last.*") if kind == STATE else KEPT
    for file in (file for pattern in kept for file in (tmp_path / "run").glob(pattern)):
        (to / file.relative_to(tmp_path / "run")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to / file.relative_to(tmp_path / "run"))
    (to / "output.txt").write_text("".join(f"{line}\n" for line in translations(to)), encoding="utf-8")


@pytest.mark.parametrize("run", [f"format1/{kind}" for kind in KINDS])
def test_an_earlier_run_is_read_and_translates_as_before(run: str) -> None:
    path = GOLDEN / run
    expected = (path / "output.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert translations(path) == expected
    assert expected[2] == "DU", "it had learnt something"
    measured = Run(path).metrics(Run(path).record()["lines"])
    if path.name == STATE:
        state = load_state(path / "checkpoints")
        assert state is not None and state["step"] == measured[-1]["step"]
        assert all(isinstance(weights, torch.Tensor) for weights in state["model"].values())


def test_a_line_comes_out_for_each_line() -> None:
    """Empty lines by the 100,000, lines of a megabyte, every plane of Unicode, all kinds of line ends."""
    planes = "".join(chr(plane * 0x10000 + 0x41) for plane in range(17))
    odd = [
        *("\r", "du\r", "\u2028", "\x0b\x0c\x1c", planes, "\ufeff"),
        *(" " * 1000, "ene " * (1 << 17), "x" * 10**6, "du"),
    ]
    given = "\n" * 100_000 + "\n".join(odd) + "\n"
    done = script("translate", f"run={GOLDEN / 'format1' / STATE}", "search=greedy", input=given)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")
    assert len(lines) == 100_000 + len(odd) + 1 and set(lines[:100_000]) == {""}
    assert lines[100_000 + 1] == "DU" == lines[-2] and lines[-1] == ""
    too_long = "du\n" + "x" * (1 << 21) + "\ndu\n"
    done = script("translate", f"run={GOLDEN / 'format1' / STATE}", input=too_long)
    assert done.returncode == 2
    assert "standard input: line 2, from byte 3, has over 1,048,576 bytes" in done.stderr
