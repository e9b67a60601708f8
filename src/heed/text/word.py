"""Whole words, by torchtext 0.6: its tokenizers, its `Vocab`, its pretrained `Vectors`.

torchtext and torch take a second to import, so they are imported where they are used.
"""

import gzip
import re
import ssl
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heed.errors import UserError, require_between
from heed.files.checksums import write_json
from heed.text.base import SPECIALS, UNK, UNKNOWN, Tokenizer, TokenizerSettings, read_model
from heed.text.printable import printable

if TYPE_CHECKING:
    from torch import Tensor

# A line of a file of vectors whose word holds a space.
SPACED = re.compile(rb"\S+ +(?![-+]?(\.?\d|nan|inf))\S", re.IGNORECASE)


class WordTokenizer(Tokenizer):
    """Ids in order: the specials, then the words, most frequent first."""

    def __init__(self, words: Sequence[str], split: Callable[[str], list[str]]):
        self.words = list(words)
        self._split = split
        # Only real words have an id by their text: a typed "</s>" must not end the sentence.
        self._ids = {word: i for i, word in enumerate(self.words, len(SPECIALS))}
        self._texts = [UNKNOWN if i == UNK else "" for i in range(len(SPECIALS))] + self.words
        self._labels = [*SPECIALS, *map(printable, self.words)]

    def __len__(self) -> int:
        return len(self._texts)

    def encode(self, text: str) -> list[int]:
        """Ids of the line's words; words outside the vocabulary are UNK."""
        return [self._ids.get(word, UNK) for word in self._split(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """The words with one space between: what the tokenizer split off stays split off."""
        return " ".join(text for i in ids if (text := self._texts[i]))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The words."""
        return [self._labels[i] for i in ids]


@dataclass
class Word(TokenizerSettings):
    """Recipe of a word vocabulary: `configs/tokenizer/word.yaml`."""

    tokenizer: str | None = None  # null: split at white space; "basic_english"; others torchtext knows
    lower: bool = False
    max_size: int | None = 50_000  # words kept, the most frequent; null keeps all
    min_frequency: int = 2  # at 1 no word of the training text is UNK, so UNK learns nothing
    vectors: str | None = None  # text file of pretrained vectors, "word number number ..." per line, or .gz

    def __post_init__(self) -> None:
        require_between("tokenizer.max_size", self.max_size, 1)
        require_between("tokenizer.min_frequency", self.min_frequency, 1)

    def train(self, texts: Iterable[str], path: Path) -> Tokenizer:
        """Counts the words and writes those it keeps to `path`; a `UserError` where there is none."""
        from torchtext.vocab import Vocab

        if self.vectors is not None and not Path(self.vectors).is_file():  # said now, not after the counting
            raise UserError(f"tokenizer.vectors={self.vectors}: no such file")
        split = _splitter(self.tokenizer, self.lower)
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(split(text))
        if not counts:
            raise UserError(f"{path}: no text to learn a vocabulary from; is the corpus empty?")
        vocabulary = Vocab(
            counts, max_size=self.max_size, min_freq=self.min_frequency, specials=list(SPECIALS)
        )
        words = vocabulary.itos[len(SPECIALS) :]
        if not words:
            raise UserError(
                f"{path}: none of {len(counts)} words occurs "
                f"tokenizer.min_frequency={self.min_frequency} times; lower it"
            )
        model = {"kind": "word", "tokenizer": self.tokenizer, "lower": self.lower}
        write_json(path, {**model, "counts": {word: counts[word] for word in words}})
        return self.load(path)

    def load(self, path: Path) -> Tokenizer:
        """Reads what `train` wrote; a `UserError` where the file is broken."""
        model = read_model(path, "word")
        tokenizer, lower, counts = model.get("tokenizer"), model.get("lower"), model.get("counts")
        if not (isinstance(tokenizer, str | None) and isinstance(lower, bool) and isinstance(counts, dict)):
            raise UserError(
                f"{path}: broken tokenizer model (tokenizer, lower, counts); prepare the data again"
            )
        return WordTokenizer(list(counts), _splitter(tokenizer, lower))

    def pretrained(self, tokenizer: Tokenizer, dim: int) -> "tuple[Tensor, Tensor] | None":
        """Ids of the N words that have a pretrained vector, "N", and the vectors, "N E"; None without a file.

        The other rows of the embedding keep what they have: `embedding.weight.data[ids] = vectors`.
        A `UserError` where the vectors are not of size `dim`, the file is broken, or has none of the words.
        """
        if self.vectors is None:
            return None
        import torch

        assert isinstance(tokenizer, WordTokenizer)
        table, rows = _read_vectors(Path(self.vectors), tokenizer.words)
        if rows.shape[1] != dim:
            raise UserError(
                f"{self.vectors}: the vectors have {rows.shape[1]} numbers, the embedding has {dim}; "
                f"set the embedding size to {rows.shape[1]}"
            )
        found = [(i, table[w]) for i, w in enumerate(tokenizer.words, len(SPECIALS)) if w in table]
        ids, places = torch.tensor(found).T
        return ids, rows[places]


def _splitter(name: str | None, lower: bool) -> Callable[[str], list[str]]:
    """torchtext's tokenizer of that name, after lower-casing if wanted."""
    from torchtext.data import get_tokenizer

    try:
        split = get_tokenizer(name)
    except (ImportError, LookupError, OSError, ValueError) as error:
        raise UserError(
            f"tokenizer.tokenizer={name!r}: torchtext cannot make it ({error}); "
            "choose null (split at white space) or basic_english"
        ) from error
    return (lambda text: split(text.lower())) if lower else split


def _read_vectors(path: Path, words: Sequence[str]) -> "tuple[dict[str, int], Tensor]":
    """Row number of each word that the file has, and the rows: "N E".

    torchtext reads a whole file, and keeps a pickle of it to load the next time. Here it gets only the lines
    of the vocabulary's words, in a directory that is gone afterwards: no pickle is ever found or left.
    """
    from torchtext.vocab import Vectors

    wanted = {word.encode() for word in words}
    # torchtext switches the check of certificates off for the whole process, even for a local file.
    verify = ssl._create_default_https_context
    try:
        with tempfile.TemporaryDirectory() as directory:
            lines = Path(directory, "vectors.txt")
            with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file, open(lines, "wb") as kept:
                kept.writelines(
                    line for line in file if line.split(b" ", 1)[0] in wanted and not SPACED.match(line)
                )
            if not lines.stat().st_size:
                raise UserError(f"has none of the {len(words)} words of the vocabulary (see tokenizer.lower)")
            vectors = Vectors(str(lines), cache=directory)
            if not vectors.vectors.isfinite().all():
                raise UserError("holds a number that is not finite")
    except (OSError, EOFError, zlib.error, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"tokenizer.vectors={path}: {error}") from error
    finally:
        ssl._create_default_https_context = verify
    return vectors.stoi, vectors.vectors
