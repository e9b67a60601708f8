"""Prepare a corpus: write its tokenizers, its text, and the encoded training and validation splits."""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from heed.data.corpus import Corpus
from heed.data.store import EncodedPairs, Lines, StoreWriter, TokenStore
from heed.errors import UserError, WriteError
from heed.files.atomic import replacing, writing
from heed.files.checksums import file_digests, read_json, to_json_values, verify_digests, write_json
from heed.files.locks import locked
from heed.files.names import check_file_name
from heed.text.base import TokenizerSettings
from heed.text.pair import Tokenizers, load_pair, train_pair

RECIPE = 7  # Raise it when the same inputs give other files.
SIDES = ("src", "tgt")
ENCODED = ("train", "val")
CHUNK = 8192  # pairs held in memory at a time
log = logging.getLogger(__name__)


class Prepared:
    """A prepared directory. The tokenizers are read at once, the splits on demand."""

    def __init__(self, directory: Path, settings: TokenizerSettings):
        self.directory = directory
        with self._advising():
            about = read_json(directory / "prepare.json")
        self.stats: dict[str, dict[str, int]] = about["splits"]  # split → pairs read, empty, long, kept
        self._digests: dict[str, str] = about["files"]
        self._check_files("tokenizer")
        self.tokenizers: Tokenizers = load_pair(settings, directory)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits: `train`, `val`, and the test splits."""
        return tuple(self.stats)

    def pairs(self, split: str) -> EncodedPairs:
        """Return the encoded pairs of `train`, without the dropped pairs, or of `val`."""
        assert split in ENCODED, split
        self._check_files(*(f"{split}.{side}.{kind}" for side in SIDES for kind in ("ids", "offsets")))
        sizes = (len(self.tokenizers.src), len(self.tokenizers.tgt))
        stores = (TokenStore(self.directory / f"{split}.{side}", V) for side, V in zip(SIDES, sizes, strict=True))
        return EncodedPairs(*stores)

    def text(self, split: str) -> tuple[Lines, Lines]:
        """Return the source and target lines. `train` is without the dropped pairs."""
        self._check(split)
        src, tgt = (f"{split}.{side}.txt" for side in SIDES)
        self._check_files(src, tgt)
        return Lines(self.directory / src), Lines(self.directory / tgt)

    def _check(self, split: str) -> None:
        if split not in self.splits:
            raise UserError(f"there is no split {split!r}; there are {', '.join(self.splits)}")

    def _check_files(self, *beginnings: str) -> None:
        """Raise `UserError` if a file whose name has one of these beginnings is missing or was changed."""
        with self._advising():
            names = [name for name in self._digests if name.startswith(beginnings)]
            verify_digests(self.directory, self._digests, names)

    @contextmanager
    def _advising(self) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            raise UserError(f"{error}. Delete the directory {self.directory} and prepare again") from None


def prepare(corpus: Corpus, settings: TokenizerSettings, root: Path, max_length: int) -> Prepared:
    """Prepare the corpus in `root/<corpus>-<src>-<tgt>-<key>/`, unless this has been done before.

    The key is a hash of everything that the files depend on. The directory is built under another name, then
    renamed. Training pairs with an empty side, or with more than `max_length` pieces on one side, are dropped
    and counted. All other splits keep every pair.

    Raises:
        UserError: a file of the corpus is unreadable, malformed or empty, or no training pair is left.
    """
    for name in (corpus.src, corpus.tgt, *corpus.splits()):  # they become parts of file names
        check_file_name(name)
    recipe = recipe_of(corpus, settings, max_length)
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    final = root / f"{type(corpus).__name__.lower()}-{corpus.src}-{corpus.tgt}-{key}"
    if not final.is_dir():
        with locked(root / ".lock", wait=True):
            for leftover in root.glob(".*.new"):  # left by a killed process; other names are not ours
                if re.fullmatch(r"\..+-[0-9a-f]{12}\.new", leftover.name):
                    shutil.rmtree(leftover, ignore_errors=True)
            if not final.is_dir():  # checked under the lock: another process may have made it
                with writing(final), replacing(final) as building:
                    _build(corpus, settings, max_length, recipe, building)
    return Prepared(final, settings)


def recipe_of(corpus: Corpus, settings: TokenizerSettings, max_length: int) -> dict[str, Any]:
    """Return everything that a prepared corpus depends on, as in its `prepare.json`."""
    how = asdict(settings)
    how.pop("vectors", None)  # training reads them, preparing does not
    recipe = {
        "recipe": RECIPE,
        "corpus": {"class": _class(corpus), "src": corpus.src, "tgt": corpus.tgt, **corpus.fingerprint()},
        "tokenizer": {"class": _class(settings), **how},
        "max_length": max_length,
    }
    return to_json_values(recipe)


def _build(
    corpus: Corpus, settings: TokenizerSettings, max_length: int, recipe: dict[str, Any], directory: Path
) -> None:
    # All text is read first, so that an error in any split is found before the slow steps.
    stats = {split: _write_text(corpus, split, directory) for split in corpus.splits()}
    tokenizers = train_pair(settings, lambda: _read_text(directory, "train"), directory)
    for split in stats:
        if split in ENCODED:
            limit = max_length if split == "train" else None
            _encode(split, tokenizers, limit, stats[split], directory)
        else:
            stats[split]["kept"] = stats[split]["pairs"]
    train = stats["train"]
    dropped = f"{train['empty']} empty and {train['long']} longer than {max_length} pieces"
    if train["kept"] == 0:
        raise UserError(f"all {train['pairs']} training pairs dropped: {dropped}; check max_length and the data")
    if train["kept"] < train["pairs"]:
        log.warning("train: dropped %s, of %d pairs", dropped, train["pairs"])
    write_json(directory / "prepare.json", {**recipe, "splits": stats, "files": file_digests(directory)})


def _write_text(corpus: Corpus, split: str, directory: Path) -> dict[str, int]:
    """Write `<split>.src.txt` and `<split>.tgt.txt`, without the empty pairs of train. Return the counts."""
    stats = {"pairs": 0, "empty": 0, "long": 0}
    with _writing_text(directory, split) as (src_file, tgt_file):
        for src, tgt in tqdm(_reading(corpus, split), desc=f"reading {split}", unit=" pairs", disable=None):
            assert "\n" not in src and "\n" not in tgt
            stats["pairs"] += 1
            if split == "train" and not (src.strip() and tgt.strip()):
                stats["empty"] += 1
            else:
                src_file.write(src + "\n")
                tgt_file.write(tgt + "\n")
    if stats["pairs"] == stats["empty"]:
        raise UserError(f"{split} of {_class(corpus)}: {stats['pairs']} pairs, none with text on both sides")
    return stats


def _reading(corpus: Corpus, split: str) -> Iterator[tuple[str, str]]:
    try:
        yield from corpus.pairs(split)
    except WriteError:  # a download cannot be saved
        raise
    except OSError as error:  # turned here, so that it is not reported as an error of writing
        raise UserError(f"{split} of {_class(corpus)} cannot be read: {error}") from error


def _read_text(directory: Path, split: str) -> Iterator[tuple[str, str]]:
    with ExitStack() as stack:
        files = (
            stack.enter_context(open(directory / f"{split}.{side}.txt", encoding="utf-8", newline="\n"))
            for side in SIDES
        )
        for src, tgt in zip(*files, strict=True):
            yield src[:-1], tgt[:-1]  # `_write_text` ended every line


def _encode(split: str, tokenizers: Tokenizers, limit: int | None, stats: dict[str, int], directory: Path) -> None:
    """Write the encoded pairs of a split.

    With a `limit`, pairs with an empty side or with more pieces on one side are dropped, also from the text.
    """
    stats["kept"] = 0
    lines = _read_text(directory, split)
    bar = tqdm(total=stats["pairs"] - stats["empty"], desc=f"encoding {split}", unit=" pairs", disable=None)
    with (
        bar,
        StoreWriter(directory / f"{split}.src", len(tokenizers.src)) as src_store,
        StoreWriter(directory / f"{split}.tgt", len(tokenizers.tgt)) as tgt_store,
        _writing_text(directory, f".{split}") as (src_file, tgt_file),
    ):
        while chunk := list(islice(lines, CHUNK)):
            src, tgt = map(list, zip(*chunk, strict=True))
            ids = zip(tokenizers.src.encode_batch(src), tokenizers.tgt.encode_batch(tgt), strict=True)
            pairs = list(zip(chunk, ids, strict=True))
            if limit is not None:
                full = [(text, (s, t)) for text, (s, t) in pairs if s and t]
                pairs = [(text, (s, t)) for text, (s, t) in full if len(s) <= limit and len(t) <= limit]
                stats["empty"] += len(chunk) - len(full)  # text for which the tokenizer has no piece
                stats["long"] += len(full) - len(pairs)
            for side, (file, store) in enumerate(((src_file, src_store), (tgt_file, tgt_store))):
                file.writelines(f"{text[side]}\n" for text, _ in pairs)
                store.add([ids[side] for _, ids in pairs])
            stats["kept"] += len(pairs)
            bar.update(len(chunk))
    for name in SIDES:
        os.replace(directory / f".{split}.{name}.txt", directory / f"{split}.{name}.txt")


@contextmanager
def _writing_text(directory: Path, split: str) -> Iterator[tuple[TextIO, TextIO]]:
    src, tgt = (directory / f"{split}.{side}.txt" for side in SIDES)
    with (
        open(src, "w", encoding="utf-8", newline="\n") as src_file,
        open(tgt, "w", encoding="utf-8", newline="\n") as tgt_file,
    ):
        yield src_file, tgt_file


def _class(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"
