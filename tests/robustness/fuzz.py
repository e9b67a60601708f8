"""Give random and mutated bytes to all that reads bytes, guided by coverage: `make fuzz INPUTS=1000000`.

Only a `UserError` that names what is wrong and where may be raised. A line comes out for each line. Text comes back
unchanged. The corpus of interesting inputs is not kept: a failing input is printed, and becomes a test.
"""

import io
import logging
import sys
import tempfile
import warnings
from contextlib import nullcontext
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["heed"]):
    from heed.alignment.forced_decoding import force_decode
    from heed.alignment.links import read_gold
    from heed.alignment.word_links import align_words
    from heed.cli.interactive import format_line
    from heed.data.lines import decode_lines, read_aligned
    from heed.data.store import StoreWriter, TokenStore
    from heed.errors import UserError
    from heed.evaluation.markdown import escape
    from heed.files.checksums import PLACEHOLDER, add_checksum, read_json
    from heed.page.sentences import Shown, load_sentences, save_sentences
    from heed.run.directory import Run
    from heed.run.loading import load_run
    from heed.run.untrusted import FIRST_LINE
    from heed.search.translator import Translator
    from heed.text import Tokenizers

import numpy as np
import torch

GOLDEN = Path(__file__).parents[1] / "run" / "golden_runs" / "format1"
SLOW = 2000  # one input of so many is translated by models
DIRECTORY = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
RUNS = {kind: load_run(GOLDEN / kind, "best") for kind in ("gru-word", "gru-char", "lstm-sentencepiece")}
torch.set_num_threads(1)
count = 0


def reading(data: bytes) -> None:
    """Compare lines with the slow and obvious way to split them."""
    try:
        lines = list(decode_lines(io.BytesIO(data).readline, "a stream"))
    except UserError as error:
        assert "a stream: line " in str(error), error
        assert b"\0" in data or not _is_utf8(data), "nothing was wrong with it"
        return
    text = data.decode("utf-8").removeprefix("\ufeff")
    expected = [line.removesuffix("\r") for line in text.split("\n")]
    assert lines == (expected[:-1] if text.endswith("\n") or not text else expected), (lines, expected)


def pairs(data: bytes) -> None:
    """Read two files line by line."""
    middle = len(data) // 2
    src, tgt = DIRECTORY / "a", DIRECTORY / "b"
    src.write_bytes(data[:middle])
    tgt.write_bytes(data[middle:])
    try:
        found = list(read_aligned(src, tgt))
    except UserError as error:
        assert str(src) in str(error) or str(tgt) in str(error), error
        return
    assert len(found) == data[:middle].count(b"\n") + (not data[:middle].endswith(b"\n"))


def tokenizers(data: bytes) -> None:
    """Every text comes back. Words come back without their blanks."""
    text = data.decode("utf-8", errors="replace").replace("\n", " ")
    for kind, (_, both, _) in RUNS.items():
        ids = both.src.encode(text)
        decoded = both.src.decode(ids)
        assert "\n" not in decoded and all(0 <= i < len(both.src) for i in ids)
        assert len(both.src.pieces(ids)) == len(ids)
        if kind == "lstm-sentencepiece":
            assert decoded == text, (decoded, text)
        if kind == "gru-word":
            known = [word if both.src.encode(word) != [1] else "\ufffd" for word in text.split()]
            assert decoded == " ".join(known), (decoded, text)


def store(data: bytes) -> None:
    """Ids come back unchanged."""
    sentences = [list(line) for line in data.split(b"\n")]
    with StoreWriter(DIRECTORY / "s", 256) as writer:
        writer.add(sentences)
    kept = TokenStore(DIRECTORY / "s", 256)
    rows, lengths = kept.rows(np.arange(len(kept)), 0)
    assert [row[:n].tolist() for row, n in zip(rows, lengths, strict=True)] == sentences


def gold(data: bytes) -> None:
    """Gold links are read, or the file is named."""
    path = DIRECTORY / "gold"
    path.write_bytes(data)
    try:
        links = read_gold(str(path), 0, False)
    except UserError as error:
        assert str(path) in str(error), error
        return
    assert len(links) <= data.count(b"\n") + 1


def markup(data: bytes) -> None:
    """A report has no markup of its text."""
    text = data.decode("utf-8", errors="replace")
    shown = escape(text)
    assert not set("<>|`*") & set(shown) and "\x1b" not in shown and "\n" not in shown, shown


def pages(data: bytes) -> None:
    """A page's data come back unchanged."""
    text = data.decode("utf-8", errors="replace")
    words = text.split() or ["x"]
    weights = np.full((1, len(words)), 1 / len(words), np.float32)
    save_sentences(DIRECTORY / "s.jsonl", [words], [text], [Shown([text], weights, 1.0)])
    sources, references, _ = load_sentences(DIRECTORY / "s.jsonl")
    assert sources == [words] and references == [text]


def records(data: bytes) -> None:
    """Checksummed files of an attacker are read or refused."""
    path = DIRECTORY / "run" / "config.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(
        b"# heed's record of the run, not to be edited: format 1, sha256 " + PLACEHOLDER.encode() + b"\n" + data
    )
    assert FIRST_LINE.match(path.read_text(encoding="utf-8", errors="replace"))
    add_checksum(path)
    try:
        Run(path.parent).config()
        raise AssertionError("fuzzing made a complete configuration")
    except UserError as error:
        assert str(error)
    path = DIRECTORY / "run" / "record.json"
    path.write_bytes(b'{"format": 1, "sha256": "' + PLACEHOLDER.encode() + b'", ' + data + b"}")
    add_checksum(path)
    try:
        assert isinstance(read_json(path), dict)
    except UserError as error:
        assert str(error)
    (path.parent / "metrics.jsonl").write_bytes(data)
    assert Run(path.parent).metrics() == []


def models(data: bytes) -> None:
    """Translation and alignment return a result for each line, in order."""
    lines = [line[:200] for line in data.decode("utf-8", errors="replace").split("\n")[:20]]
    for model, both, config in RUNS.values():
        found = Translator([model], both, config.search).translate(lines)
        assert len(found) == len(lines)
        for line, best in zip(lines, found, strict=True):
            assert "\n" not in format_line(best, True) and (line.strip() or best[0].text == "")
        alone = Translator([model], both, config.search).translate(lines[-1:])
        assert alone[0][0].text == found[-1][0].text
        forced = force_decode([model], Tokenizers(both.src, both.tgt), lines, lines[::-1], "cpu", nullcontext)
        assert len(align_words(both, lines, lines[::-1], [pair.alignment for pair in forced], (0,))) == len(lines)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


TARGETS = 10 * (reading, tokenizers, markup) + (pairs, store, gold, pages, records)  # files are slower


def one(data: bytes) -> None:
    """Give the rest of the bytes to the target that the first byte chooses."""
    global count
    count += 1
    if not data:
        return
    TARGETS[data[0] % len(TARGETS)](data[1:])
    if count % SLOW == 0:
        models(data)


def main() -> None:
    """Fuzz until `-runs` inputs are done."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
