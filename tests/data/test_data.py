"""Reading text, the corpora of files, downloads, the store and preparing."""

import gzip
import hashlib
import io
import json
import os
import shutil
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from helpers.runs import write_corpus as tiny_corpus
from hypothesis import given
from hypothesis import strategies as st

import heed.data
from heed.data import Files, Multi30k, Tsv
from heed.data.download import ATTEMPTS, CHUNK, download
from heed.data.lines import decode_lines, read_aligned, read_lines
from heed.data.multi30k import TOKENISED
from heed.data.prepare import prepare
from heed.data.store import StoreWriter, TokenStore
from heed.files.locks import locked
from heed.text import Word
from heed.text.base import Tokenizer, TokenizerSettings

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data beside the repository")

# Characters at which text tools like to break lines, among all of Unicode that UTF-8 can hold.
CHARACTERS = st.one_of(
    st.sampled_from("\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\r\ufeff\u200b \t"),
    st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]),
)
LINES = st.lists(st.text(CHARACTERS).filter(lambda line: not line.endswith("\r")))


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# Reading


@given(LINES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_lines_end_at_newline_alone(lines: list[str], end: str, bom: bool, packed: bool) -> None:
    text = ("\ufeff" if bom else "") + "".join(line + end for line in lines)
    if lines and not bom:
        # A drawn first line may itself begin with what is a BOM at the start of a file.
        text, lines = "x" + text, ["x" + lines[0], *lines[1:]]
    with TemporaryDirectory() as directory:
        path = Path(directory) / ("a.gz" if packed else "a")
        write(path, gzip.compress(text.encode()) if packed else text)
        assert list(read_lines(path)) == lines
    assert list(decode_lines(io.BytesIO(text.encode()).readline, "stdin")) == lines


def test_last_line_may_lack_its_newline(tmp_path: Path) -> None:
    assert list(read_lines(write(tmp_path / "a", "eins\nzwei"))) == ["eins", "zwei"]
    assert list(read_lines(write(tmp_path / "a", "eins\n\n"))) == ["eins", ""]


def test_invalid_utf8_names_file_line_and_byte(tmp_path: Path) -> None:
    content = "\ufeffgrün\r\nrot ".encode() + "blaß\n".encode("latin-1")
    path = write(tmp_path / "a.de", content)
    with pytest.raises(ValueError, match=rf"a\.de: line 2 is not UTF-8 at byte {content.index(0xDF)} \(0xdf\)"):
        list(read_lines(path))
    packed = write(tmp_path / "a.gz", gzip.compress(content))
    with pytest.raises(ValueError, match=rf"a\.gz: line 2 .* byte {content.index(0xDF)} "):
        list(read_lines(packed))


def test_nul_names_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"b\.en: line 3 holds a NUL at byte 6"):
        list(read_lines(write(tmp_path / "b.en", "a\nb\ncd\0e\n")))


def damaged(directory: Path) -> Iterator[tuple[Path, str | None]]:
    packed = gzip.compress(np.random.default_rng(3).integers(97, 123, 9001, np.uint8).tobytes())
    yield directory / "absent", None
    yield directory, None
    yield write(directory / "cut.gz", packed[:-1000]), None
    yield write(directory / "flipped.gz", packed[:500] + bytes([packed[500] ^ 255]) + packed[501:]), None
    yield write(directory / "plain.gz", "not packed\n"), None
    yield write(directory / "not.zip", "not a zip\n"), "x.txt"
    with zipfile.ZipFile(directory / "good.zip", "w") as archive:
        archive.writestr("x.txt", "x\ty\n")
    yield directory / "good.zip", "y.txt"
    yield directory / "good.zip", None


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    for path, member in damaged(tmp_path):
        with pytest.raises(ValueError) as caught:
            list(read_lines(path, member))
        assert str(path) in str(caught.value) and ";" in str(caught.value)  # what is wrong; what to do
    assert list(read_lines(tmp_path / "good.zip", "x.txt")) == ["x\ty"]


@given(st.lists(st.sampled_from(["", "a"]), max_size=5), st.lists(st.sampled_from(["", "b"]), max_size=5))
def test_unequal_files_are_named_with_their_counts(src: list[str], tgt: list[str]) -> None:
    with TemporaryDirectory() as directory:
        paths = [Path(directory) / "x.de", Path(directory) / "x.en"]
        for path, lines in zip(paths, (src, tgt), strict=True):
            write(path, "".join(line + "\n" for line in lines))
        if len(src) == len(tgt) > 0:
            assert list(read_aligned(*paths)) == list(zip(src, tgt, strict=True))
            return
        with pytest.raises(ValueError) as caught:
            list(read_aligned(*paths))
        message = str(caught.value)
        assert str(paths[0]) in message and str(paths[1]) in message
        if src or tgt:
            assert f"x.de has {len(src)} lines" in message and f"x.en has {len(tgt)};" in message
        else:
            assert "empty" in message


# Files and Multi30k


def small(directory: Path, **texts: str) -> Files:
    """A corpus of files; `train_de="…"` replaces the text of train.de."""
    defaults = {
        "train": ("ja\nnein\n", "yes\nno\n"),
        "val": ("hier\n", "here\n"),
        "test": ("\ndort\n", "\nthere\n"),
    }
    for split, pair in defaults.items():
        for lang, text in zip(("de", "en"), pair, strict=True):
            write(directory / f"{split}.{lang}", texts.get(f"{split}_{lang}", text))
    return Files("de", "en", source=str(directory))


def test_files_plain_and_compressed(tmp_path: Path) -> None:
    corpus = small(tmp_path)
    write(tmp_path / "train.de.gz", gzip.compress((tmp_path / "train.de").read_bytes()))
    (tmp_path / "train.de").unlink()
    assert corpus.splits() == ("train", "val", "test")
    assert list(corpus.pairs("train")) == [("ja", "yes"), ("nein", "no")]
    assert list(corpus.pairs("test")) == [("", ""), ("dort", "there")]
    assert list(Files("en", "de", str(tmp_path), test=[]).pairs("val")) == [("here", "hier")]
    assert Files("en", "de", str(tmp_path), test=[]).splits() == ("train", "val")


def test_files_by_pattern(tmp_path: Path) -> None:
    for lang in ("de", "en"):
        write(tmp_path / f"x.corpus.{lang}.txt", lang + "\n")
    corpus = Files("de", "en", str(tmp_path), pattern="x.{split}.{lang}.txt", train="corpus")
    assert list(corpus.pairs("train")) == [("de", "en")]
    with pytest.raises(ValueError, match=r"neither .*x\.val\.de\.txt nor .*x\.val\.de\.txt\.gz exists"):
        corpus.pairs("val")


def test_files_refuses_impossible_settings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.source is not set.*train\.de, train\.en"):
        Files("de", "en").fingerprint()
    with pytest.raises(ValueError, match=r"data\.pattern is '\{split\}'"):
        Files("de", "en", "x", pattern="{split}")
    with pytest.raises(ValueError, match="both 'de'"):
        Files("de", "de", "x")
    with pytest.raises(ValueError, match=r"data\.test is \['val'\]"):
        Files("de", "en", "x", test=["val"])
    with pytest.raises(ValueError, match="no split 'tset'; there are train, val, test"):
        small(tmp_path).pairs("tset")
    with pytest.raises(ValueError, match="'nl'; Multi30k has en, de, fr, cs"):
        Multi30k("en", "nl")


def test_fingerprint_is_of_contents_not_places(tmp_path: Path) -> None:
    one, two = small(tmp_path / "one"), small(tmp_path / "two")
    assert one.fingerprint() == two.fingerprint()
    write(tmp_path / "two" / "test.en", "\nThere\n")
    assert one.fingerprint() != two.fingerprint()
    json.dumps(one.fingerprint())


@needs_shared
def test_multi30k_reads_upstream_files() -> None:
    raw = Multi30k("de", "en", source=str(SHARED / "multi30k" / "raw"))
    counts = [sum(1 for _ in raw.pairs(split)) for split in raw.splits()]
    assert counts == [29_000, 1_014, 1_000, 1_000]
    assert next(raw.pairs("val")) == (
        "Eine Gruppe von Männern lädt Baumwolle auf einen Lastwagen",
        "A group of men are loading cotton onto a truck",
    )
    known = {f"{split}.{lang}.gz": digest for split, both in raw.fingerprint().items() for lang, digest in both.items()}
    tok = Multi30k("en", "de", source=str(SHARED / "multi30k" / "tok"), pattern=TOKENISED)
    for path in (SHARED / "multi30k" / "tok").glob("*.gz"):  # upstream's are not packed
        known[path.stem] = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    del known["train.lc.norm.tok.en"]
    assert known == heed.data.multi30k.SHA256
    assert next(tok.pairs("val")) == (
        "a group of men are loading cotton onto a truck",
        "eine gruppe von männern lädt baumwolle auf einen lastwagen",
    )


def test_multi30k_downloads_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def fetch(url: str, path: Path, digest: str | None) -> None:
        assert digest == heed.data.multi30k.SHA256.get(path.name)
        fetched.append(url.removeprefix(heed.data.multi30k.URL))
        line = f"{path.name}\n".encode()
        write(path, gzip.compress(line) if path.suffix == ".gz" else line)

    monkeypatch.setattr(heed.data.multi30k, "download", fetch)
    corpus = Multi30k("fr", "de", cache=str(tmp_path / "raw"), test=["test_2016_flickr"])
    assert fetched == []  # nothing is fetched before it is needed
    for _ in range(2):
        assert list(corpus.pairs("val")) == [("val.fr.gz", "val.de.gz")]
        corpus.fingerprint()
    splits = ("train", "val", "test_2016_flickr")
    assert sorted(fetched) == sorted(f"raw/{split}.{lang}.gz" for split in splits for lang in ("fr", "de"))

    fetched.clear()
    tok = Multi30k("en", "de", cache=str(tmp_path / "tok"), pattern=TOKENISED)
    assert list(tok.pairs("val")) == [("val.lc.norm.tok.en", "val.lc.norm.tok.de")]
    assert fetched == ["tok/val.lc.norm.tok.en", "tok/val.lc.norm.tok.de"]


def test_other_directories_are_left_alone_and_unreadable_files_are_named(tmp_path, monkeypatch):
    root = tmp_path / "data"
    for name in (".draft.new", ".files-de-en-0123456789ab.new"):
        (root / name).mkdir(parents=True)
    source = tiny_corpus(tmp_path / "corpus")
    prepare(Files("de", "en", source=str(source)), Word(), root, 100)
    assert (root / ".draft.new").exists() and not (root / ".files-de-en-0123456789ab.new").exists()

    def gone(*_: object) -> Iterator[tuple[str, str]]:
        with open(tmp_path / "gone"):
            yield "", ""

    monkeypatch.setattr(Files, "pairs", gone)
    with pytest.raises(ValueError, match=r"train of heed\.data\.files\.Files cannot be read: .*gone"):
        prepare(Files("de", "en", source=str(source)), Word(), root, 99)


# Downloads: a server that cuts off, ignores ranges, or has another file

CONTENT = np.random.default_rng(5).bytes(300_007)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT at any path but /absent; `cuts` replies end after so many bytes."""

    ranges = True
    cuts: list[int]
    sent: list[int]  # bytes of each reply

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cuts, self.sent = [], []
        self.url = f"http://127.0.0.1:{self.server_port}/file.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path == "/absent":
            return self.send_error(404)
        wanted = self.headers.get("Range") if self.server.ranges else None
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if start >= len(CONTENT):
            return self.send_error(416)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        body = CONTENT[start:]
        body = body[: self.server.cuts.pop(0)] if self.server.cuts else body
        self.server.sent.append(len(body))  # first: the client may look as soon as it has the body
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def test_download_whole(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.gz"
    download(server.url, path, DIGEST)
    assert path.read_bytes() == CONTENT
    assert [one.name for one in path.parent.iterdir() if one.name != ".file.gz.lock"] == [path.name]


def test_one_of_two_that_download_a_file_waits(server: Server, tmp_path: Path) -> None:
    """They gathered its bytes in one file, which without a known hash was taken for whole."""
    with ThreadPoolExecutor(3) as pool:
        for one in [pool.submit(download, server.url, tmp_path / "file.gz", None) for _ in range(3)]:
            one.result()
    assert (tmp_path / "file.gz").read_bytes() == CONTENT
    assert server.sent == [len(CONTENT)]


def test_a_disk_without_room_for_a_download_is_named(server: Server, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match=r"file\.gz\.part cannot be written .*No space left.*Make room"):
        download(server.url, tmp_path / "file.gz", DIGEST)


def test_download_cut_off_replies_are_continued(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_003, 70_001]
    download(server.url, tmp_path / "file.gz", DIGEST)
    assert (tmp_path / "file.gz").read_bytes() == CONTENT
    assert server.sent[:2] == [100_003, 70_001] and len(server.sent) == 3
    assert len(CONTENT) <= sum(server.sent) < len(CONTENT) + 2 * CHUNK  # of each cut reply, all but a chunk is kept


def test_download_next_run_goes_on_with_the_part(server: Server, tmp_path: Path) -> None:
    server.cuts = [10_007] * ATTEMPTS
    with pytest.raises(ValueError, match=r"/file\.gz: download failed .*Run the command again"):
        download(server.url, tmp_path / "file.gz", DIGEST)
    assert not (tmp_path / "file.gz").exists()
    part = (tmp_path / "file.gz.part").read_bytes()
    assert CONTENT.startswith(part) and len(part) > (10_007 - CHUNK) * ATTEMPTS
    download(server.url, tmp_path / "file.gz", None)
    assert (tmp_path / "file.gz").read_bytes() == CONTENT
    assert server.sent[-1] == len(CONTENT) - len(part)


def test_download_starts_again_if_the_server_has_no_ranges(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "file.gz.part").write_bytes(b"something older")
    download(server.url, tmp_path / "file.gz", DIGEST)
    assert (tmp_path / "file.gz").read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [b"", b"too long"])
def test_download_part_that_is_already_whole_or_too_long(server: Server, tmp_path: Path, extra: bytes) -> None:
    (tmp_path / "file.gz.part").write_bytes(CONTENT + extra)
    download(server.url, tmp_path / "file.gz", DIGEST)
    assert (tmp_path / "file.gz").read_bytes() == CONTENT


def test_download_wrong_hash_names_both_and_removes_the_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        download(server.url, tmp_path / "file.gz", "0" * 64)
    assert DIGEST in str(caught.value) and "0" * 64 in str(caught.value) and server.url in str(caught.value)
    assert [one.name for one in tmp_path.iterdir()] == [".file.gz.lock"]


def test_download_no_such_file_and_no_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"/absent: download failed \(404"):
        download(server.url.replace("file.gz", "absent"), tmp_path / "file.gz", None)
    server.server_close()
    with pytest.raises(ValueError, match="download failed"):
        download("http://127.0.0.1:9/file.gz", tmp_path / "file.gz", None)


# Tables


def table(path: Path, rows: Sequence[tuple[str, ...]]) -> str:
    return str(write(path, "".join("\t".join(row) + "\n" for row in rows)))


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=30, max_size=60),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(0, 99),
)
def test_tsv_splits_leak_nothing(rows: list[tuple[int, int]], val: int, test: int, seed: int) -> None:
    with TemporaryDirectory() as directory:
        # The first rows are not linked to others, so that there is something to hold out.
        text = [(f"s{i}", f"t{i}") for i in range(100, 111)] + [(f"s{a}", f"t{b}") for a, b in rows]
        file = table(Path(directory) / "x.tsv", text)
        corpus = Tsv("a", "b", file, val=val, test=test, seed=seed)
        parts = {split: list(corpus.pairs(split)) for split in corpus.splits()}
        assert Tsv("a", "b", file, val=val, test=test, seed=seed).fingerprint() == corpus.fingerprint()
        again = Tsv("a", "b", file, val=val, test=test, seed=seed)
        assert {split: list(again.pairs(split)) for split in again.splits()} == parts
    assert sum(map(Counter, parts.values()), Counter()) == Counter(text)
    assert (len(parts["val"]), len(parts["test"])) == (val, test)
    for side in (0, 1):
        seen = [{pair[side] for pair in part} for part in parts.values()]
        assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_tsv_draw_depends_on_its_seed_and_links_chains(tmp_path: Path) -> None:
    rows = [(f"s{i}", f"t{i}") for i in range(101)]
    file = table(tmp_path / "x", rows)
    drawn = [list(Tsv("a", "b", file, val=7, test=11, seed=seed).pairs("val")) for seed in (1, 2)]
    assert drawn[0] != drawn[1]
    # a–x, b–x, b–y, …: linked two by two, so they are one component, too large to be held out.
    chain = [(f"c{i // 2}", f"d{(i + 1) // 2}") for i in range(13)]
    corpus = Tsv("a", "b", table(tmp_path / "y", [*chain, *rows[:9]]), val=3, test=5, seed=1)
    assert set(chain) <= set(corpus.pairs("train"))


def test_tsv_columns_packing_and_errors(tmp_path: Path) -> None:
    rows = [(str(i), f"Wort {i}", f"word {i}\u2028") for i in range(7)]
    file = table(tmp_path / "x.tsv", rows)
    corpus = Tsv("en", "de", file, columns=[2, 1], val=1, test=1)
    everything = {pair for split in corpus.splits() for pair in corpus.pairs(split)}
    assert everything == {(en, de) for _, de, en in rows}
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(file, "x.tsv")
    zipped = Tsv("en", "de", str(tmp_path / "x.zip"), "x.tsv", columns=[2, 1], val=1, test=1)
    assert list(zipped.pairs("train")) == list(corpus.pairs("train"))
    with pytest.raises(ValueError, match=r"x\.tsv: line 1 has 3 column\(s\); .*needs 6"):
        list(Tsv("a", "b", file, columns=[0, 5]).pairs("val"))
    write(tmp_path / "x.tsv", (tmp_path / "x.tsv").read_text() + "\n")
    with pytest.raises(ValueError, match=r"line 8 has 1 column"):
        list(Tsv("a", "b", file).pairs("val"))
    with pytest.raises(ValueError, match=r"data\.val=1 and data\.test=2 cannot be drawn: .* Of 3 lines 0 lack a side"):
        list(Tsv("a", "b", table(tmp_path / "y", rows[:3]), val=1, test=2).pairs("val"))
    with pytest.raises(ValueError, match=r"of 2 lines none has text in both columns"):
        list(Tsv("a", "b", table(tmp_path / "z", [("", "x"), ("y", "")])).pairs("val"))
    with pytest.raises(ValueError, match=r"data\.file=.* is a directory or a pipe: give a file"):
        Tsv("a", "b", str(tmp_path)).fingerprint()
    with pytest.raises(ValueError, match=r"data\.seed is -3"):
        Tsv("a", "b", file, seed=-3)
    with pytest.raises(ValueError, match=r"data\.file is not set"):
        Tsv("a", "b").fingerprint()
    with pytest.raises(ValueError, match=r"data\.columns is \[0\]"):
        Tsv("a", "b", file, columns=[0])
    with pytest.raises(ValueError, match=r"data\.columns is \[1, 1\]"):
        Tsv("a", "b", file, columns=[1, 1])
    with pytest.raises(ValueError, match=r"x\.zip: a \.zip holds files \(x\.tsv\)"):
        list(Tsv("a", "b", str(tmp_path / "x.zip"), "y.tsv").pairs("val"))
    with pytest.raises(ValueError, match=r"data\.val is 0"):
        Tsv("a", "b", file, val=0)


def test_tsv_rows_without_text_on_a_side_are_not_drawn_and_link_nothing(tmp_path: Path) -> None:
    rows = [(f"s{i}", f"t{i}") for i in range(31)]
    holes = [(f"s{i}", " ") for i in range(29)] + [("", f"t{i}") for i in range(29)]
    corpus = Tsv("a", "b", table(tmp_path / "x", [*rows, *holes]), val=13, test=17, seed=3)
    assert {*corpus.pairs("val"), *corpus.pairs("test")} < set(rows)
    assert len(set(corpus.pairs("train")) & set(rows)) == 1
    with pytest.raises(ValueError, match=r"leaving 0 for training; take fewer\. Of 89 lines 58 lack a side"):
        list(Tsv("a", "b", table(tmp_path / "x", [*rows, *holes]), val=13, test=18, seed=3).pairs("val"))


@needs_shared
def test_tsv_holds_out_of_tatoeba_without_a_leak() -> None:
    corpus = Tsv("en", "de", str(SHARED / "tatoeba" / "deu-eng.zip"), "deu.txt")
    parts = [list(corpus.pairs(split)) for split in corpus.splits()]
    assert [len(part) for part in parts] == [167_813, 1_000, 1_000]
    for side in (0, 1):
        train, val, test = ({pair[side] for pair in part} for part in parts)
        assert not (train & val or train & test or val & test)


# The store


@given(
    st.lists(st.lists(st.lists(st.integers(0, 65_535), max_size=7), max_size=5), max_size=5),
    st.sampled_from([65_536, 65_537]),
    st.data(),
)
def test_store_gives_back_every_sentence(chunks: list[list[list[int]]], vocab_size: int, data: Any) -> None:
    sentences = [ids for chunk in chunks for ids in chunk]
    with TemporaryDirectory() as directory:
        path = Path(directory) / "train.src"
        with StoreWriter(path, vocab_size) as writer:
            for chunk in chunks:
                writer.add(chunk)
        store = TokenStore(path, vocab_size)
        size = Path(directory, "train.src.ids").stat().st_size
        assert size == sum(map(len, sentences)) * (2 if vocab_size == 65_536 else 4)
        assert len(store) == len(sentences) and store.lengths.tolist() == [len(ids) for ids in sentences]
        if not sentences:
            return
        picked = data.draw(st.lists(st.integers(0, len(sentences) - 1), max_size=11))
        rows, lengths = store.rows(np.array(picked, np.int64), pad=-1)
        width = max((len(sentences[i]) for i in picked), default=0)
        assert rows.shape == (len(picked), width)
        assert rows.tolist() == [sentences[i] + [-1] * (width - len(sentences[i])) for i in picked]
        assert lengths.tolist() == [len(sentences[i]) for i in picked]


def test_damaged_store_is_named(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "val.src", 7) as writer:
        writer.add([[1, 2], [3]])
    write(tmp_path / "val.src.ids", (tmp_path / "val.src.ids").read_bytes()[:-2])
    with pytest.raises(ValueError, match=r"val\.src\.ids: damaged; delete the directory"):
        TokenStore(tmp_path / "val.src", 7)
    (tmp_path / "val.src.offsets").unlink()
    with pytest.raises(ValueError, match=r"val\.src\.offsets: damaged .*delete the directory"):
        TokenStore(tmp_path / "val.src", 7)


# Preparing


class Letters(Tokenizer):
    """One id per letter; makes nothing of spaces."""

    def __len__(self) -> int:
        return 101

    def encode(self, text: str) -> list[int]:
        return [4 + ord(letter) % 97 for letter in text if not letter.isspace() and letter != "\u200b"]

    def decode(self, ids: Sequence[int]) -> str:
        raise NotImplementedError

    def pieces(self, ids: Sequence[int]) -> list[str]:
        raise NotImplementedError


@dataclass
class LetterSettings(TokenizerSettings):
    taste: int = 0

    def train(self, texts: Iterable[str], path: Path) -> Tokenizer:
        write(path, "\n".join(texts))
        return Letters()

    def load(self, path: Path) -> Tokenizer:
        assert path.is_file()
        return Letters()


class Untrained(LetterSettings):
    def train(self, texts: Iterable[str], path: Path) -> Tokenizer:
        raise AssertionError("asked to train")


def test_prepare_drops_from_training_alone_and_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    corpus = small(
        tmp_path / "raw",
        train_de="ab\u2028c\n\nabcdef\nabc\n \nabcde\n\u200b\n",
        train_en="abcde\nb\nabc\nabcdef\nc\na\nzero\n",
        val_de="abcdefghi\n\n a\rb\u2028\n",
        val_en="\nx\ny\n",
    )
    prepared = prepare(corpus, LetterSettings(), tmp_path / "prepared", max_length=5)
    assert prepared.stats["train"] == {"pairs": 7, "empty": 3, "long": 2, "kept": 2}
    assert prepared.stats["val"] == {"pairs": 3, "empty": 0, "long": 0, "kept": 3}
    assert prepared.stats["test"] == {"pairs": 2, "empty": 0, "long": 0, "kept": 2}
    assert "dropped 3 empty and 2 longer than 5 pieces, of 7 pairs" in caplog.text
    train, val = prepared.pairs("train"), prepared.pairs("val")
    assert (len(train), len(val)) == (2, 3)
    assert train.src.rows(np.array([0, 1]), 0)[0].tolist() == [
        [*Letters().encode("abc"), 0, 0],
        Letters().encode("abcde"),
    ]
    assert train.tgt.lengths.tolist() == [5, 1]
    assert val.src.lengths.tolist() == [9, 0, 2] and val.tgt.lengths.tolist() == [0, 1, 1]
    assert [list(side) for side in prepared.text("val")] == [
        ["abcdefghi", "", " a\rb\u2028"],
        ["", "x", "y"],
    ]
    assert [list(side) for side in prepared.text("train")] == [["ab\u2028c", "abcde"], ["abcde", "a"]]
    assert prepared.text("val")[0][-1] == " a\rb\u2028" and prepared.text("val")[1][1:] == ["x", "y"]
    with pytest.raises(IndexError):
        prepared.text("val")[0][3]
    assert prepared.splits == ("train", "val", "test")
    assert prepared.directory.name.startswith("files-de-en-") and prepared.tokenizers.joint
    with pytest.raises(ValueError, match="no split 'tset'; there are train, val, test"):
        prepared.text("tset")


def test_prepare_builds_again_only_after_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, root = small(tmp_path / "raw"), tmp_path / "prepared"
    first = prepare(corpus, LetterSettings(), root, 9).directory
    files = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    moved = Files("de", "en", str(shutil.move(tmp_path / "raw", tmp_path / "moved")))
    with monkeypatch.context() as patch:
        patch.delattr(heed.data.prepare, "_build")
        assert prepare(moved, LetterSettings(), root, 9).directory == first
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == files
    turned = Files("en", "de", moved.source)
    others = [
        prepare(moved, LetterSettings(), root, 8).directory,
        prepare(moved, LetterSettings(taste=1), root, 9).directory,
        prepare(moved, LetterSettings(joint=False), root, 9).directory,
        prepare(turned, LetterSettings(), root, 9).directory,
        prepare(Files("de", "en", moved.source, test=[]), LetterSettings(), root, 9).directory,
    ]
    write(tmp_path / "moved" / "val.en", "Here\n")
    others.append(prepare(moved, LetterSettings(), root, 9).directory)
    assert len({first, *others}) == 7 == len(list(root.glob("[!.]*")))


def test_a_tokenizer_per_side_learns_from_its_side(tmp_path: Path) -> None:
    corpus = small(tmp_path / "raw", train_de="ja\n\nnein\n", train_en="yes\nx\nno\n")
    prepared = prepare(corpus, LetterSettings(joint=False), tmp_path, 9)
    assert not prepared.tokenizers.joint
    assert (prepared.directory / "tokenizer.src.model").read_text() == "ja\nnein"  # the empty pair is out
    assert (prepared.directory / "tokenizer.tgt.model").read_text() == "yes\nno"


def test_bad_text_is_found_before_any_work_and_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "prepared"
    for bad, message in (
        ({"test_en": "x\n"}, r"test\.de has 2 lines but .*test\.en has 1;"),
        ({"val_de": ""}, r"val\.de has 0 lines but"),
        ({"val_de": "", "val_en": ""}, r"val\.de and .*val\.en are empty"),
        ({"train_de": "a\nb\0\n"}, r"train\.de: line 2 holds a NUL"),
        ({"train_de": "\n\n"}, r"train of .*Files: 2 pairs, none with text on both sides"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(small(tmp_path / "raw", **bad), Untrained(), root, 9)
        assert list(root.glob("[!.]*")) == []
    with pytest.raises(ValueError, match="all 2 training pairs dropped: 0 empty and 2 longer than 1 pieces"):
        prepare(small(tmp_path / "raw"), LetterSettings(), root, 1)
    with pytest.raises(AssertionError, match="asked to train"):
        prepare(small(tmp_path / "raw"), Untrained(), root, 9)
    assert [path.name for path in root.iterdir()] == [".lock"]


def test_one_of_two_that_prepare_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    corpus = small(tmp_path / "raw")
    expected = prepare(corpus, LetterSettings(), tmp_path / "alone", 9).directory
    made = tmp_path / "data" / expected.name
    others = ThreadPoolExecutor()
    with locked(tmp_path / "data" / ".lock"):
        waiting = others.submit(prepare, corpus, LetterSettings(), tmp_path / "data", 9)
        until = time.monotonic() + 60
        while f"waiting for process {os.getpid()}" not in caplog.text and time.monotonic() < until:
            time.sleep(0.01)
        assert not waiting.done() and time.monotonic() < until
        shutil.copytree(expected, made)  # the other one makes it
        (made / "sign").touch()
    waiting.result()
    assert (made / "sign").exists(), "it is taken as it is"
    assert {path.name for path in (tmp_path / "data").iterdir()} == {made.name, ".lock"}


def test_names_of_splits_are_taken_and_the_draw_is_in_the_fingerprint(tmp_path: Path) -> None:
    for lang in ("de", "en"):
        write(tmp_path / f"dev.{lang}", lang + "\n")
    assert list(Files("de", "en", str(tmp_path), val="dev").pairs("val")) == [("de", "en")]
    file = table(tmp_path / "x", [(f"a{i}", f"b{i}", f"c{i}") for i in range(30)])
    given = {"val": 3, "test": 3}
    plain = Tsv("a", "b", file, **given).fingerprint()
    for change in ({"seed": 2}, {"val": 4}, {"test": 4}, {"columns": [1, 2]}, {"columns": [1, 0]}):
        assert Tsv("a", "b", file, **given | change).fingerprint() != plain, change
