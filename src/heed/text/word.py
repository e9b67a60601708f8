"""Word tokenizers, by torchtext 0.6: its tokenizers, its `Vocab`, its pretrained `Vectors`.

torchtext and torch take a second to import, so the functions that need them import them.
"""

import gzip
import re
import ssl
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heed.errors import UserError, require_between
from heed.files.checksums import write_json
from heed.text.base import SPECIALS, UNK, UNKNOWN, Tokenizer, TokenizerSettings, read_model
from heed.text.printable import printable

if TYPE_CHECKING:
    from torch import Tensor

# A line of a vectors file whose word contains a space.
SPACED = re.compile(rb"\S+ +(?![-+]?(\.?\d|nan|inf))\S", re.IGNORECASE)


class WordTokenizer(Tokenizer):
    """A word vocabulary: the specials, then the words, most frequent first."""

    def __init__(self, words: Sequence[str], split: Callable[[str], list[str]]):
        self.words = list(words)
        self._split = split
        # The specials have no id by their text: a typed "</s>" must not end the sentence.
        self._ids = {word: i for i, word in enumerate(self.words, len(SPECIALS))}
        self._texts = [UNKNOWN if i == UNK else "" for i in range(len(SPECIALS))] + self.words
        self._labels = [*SPECIALS, *map(printable, self.words)]

    def __len__(self) -> int:
        return len(self._texts)

    def encode(self, text: str) -> list[int]:
        """Return the ids of the line's words. Words outside the vocabulary are UNK."""
        return [self._ids.get(word, UNK) for word in self._split(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the words, joined by single spaces. Punctuation that `encode` split off stays separate."""
        return " ".join(text for i in ids if (text := self._texts[i]))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the words."""
        return [self._labels[i] for i in ids]


@dataclass
class Word(TokenizerSettings):
    """Settings of a word vocabulary: `configs/tokenizer/word.yaml`."""

    tokenizer: str | None = None  # null: split at white space; "basic_english"; others of torchtext
    lower: bool = False
    max_size: int | None = 50_000  # the most frequent words are kept; null keeps all.
    min_frequency: int = 2  # With 1, no word of the training text is UNK, so UNK learns nothing.
    vectors: str | None = None  # Text file of pretrained vectors: "word number number ..." per line, or .gz

    def __post_init__(self) -> None:
        require_between("tokenizer.max_size", self.max_size, 1)
        require_between("tokenizer.min_frequency", self.min_frequency, 1)

    def train(self, texts: Iterable[str], path: Path) -> Tokenizer:
        """Count the words and write the vocabulary to `path`. Raises `UserError` if it would be empty."""
        from torchtext.vocab import Vocab

        if self.vectors is not None and not Path(self.vectors).is_file():  # found now, not after the counting
            raise UserError(f"tokenizer.vectors={self.vectors}: no such file")
        split = _splitter(self.tokenizer, self.lower)
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(split(text))
        if not counts:
            raise UserError(f"{path}: no text to learn a vocabulary from; is the corpus empty?")
        vocabulary = Vocab(counts, max_size=self.max_size, min_freq=self.min_frequency, specials=list(SPECIALS))
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
        """Read a model that `train` wrote. Raises `UserError` if the file is broken."""
        model = read_model(path, "word")
        tokenizer, lower, counts = model.get("tokenizer"), model.get("lower"), model.get("counts")
        if not (isinstance(tokenizer, str | None) and isinstance(lower, bool) and isinstance(counts, dict)):
            raise UserError(f"{path}: broken tokenizer model (tokenizer, lower, counts); prepare the data again")
        return WordTokenizer(list(counts), _splitter(tokenizer, lower))

    def pretrained(self, tokenizer: Tokenizer, dim: int) -> "tuple[Tensor, Tensor] | None":
        """Return the ids of the words that have a pretrained vector, "N", and the vectors, "N E".

        `dim` is the size E of the model's embeddings. None if `vectors` is not set.

        Raises:
            UserError: the vectors are not of size `dim`, or the file is broken or has none of the words.
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
    """Return torchtext's tokenizer of that name. `lower`: it makes the text lower-case first."""
    from torchtext.data import get_tokenizer

    try:
        split = get_tokenizer(name)
    except (ImportError, LookupError, OSError, ValueError) as error:
        raise UserError(
            f"tokenizer.tokenizer={name!r}: torchtext cannot load it ({error}); "
            "choose null (split at white space) or basic_english"
        ) from error
    return (lambda text: split(text.lower())) if lower else split


def _read_vectors(path: Path, words: Sequence[str]) -> "tuple[dict[str, int], Tensor]":
    """Return the row number of each word that the file has, and the rows, "N E".

    torchtext would read the complete file, and cache it as a pickle that it loads the next time. Here it
    reads only the lines of the vocabulary's words, in a temporary directory: no pickle is ever loaded or
    left.
    """
    from torchtext.vocab import Vectors

    wanted = {word.encode() for word in words}
    try:
        with _checked_certificates(), tempfile.TemporaryDirectory() as directory:
            lines = Path(directory, "vectors.txt")
            with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file, open(lines, "wb") as kept:
                kept.writelines(line for line in file if line.split(b" ", 1)[0] in wanted and not SPACED.match(line))
            if not lines.stat().st_size:
                raise UserError(f"has none of the {len(words)} words of the vocabulary (see tokenizer.lower)")
            vectors = Vectors(str(lines), cache=directory)
            if not vectors.vectors.isfinite().all():
                raise UserError("holds a number that is not finite")
    except (OSError, EOFError, zlib.error, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"tokenizer.vectors={path}: {error}") from error
    return vectors.stoi, vectors.vectors


@contextmanager
def _checked_certificates() -> Iterator[None]:
    """Restore the check of TLS certificates, which torchtext's `Vectors` switches off, even for a local file.

    It does so for the whole process, by a private attribute of `ssl`. Python initialises this attribute
    with the public `create_default_context`, which checks certificates.
    """
    hook = "_create_default_https_context"
    verify = getattr(ssl, hook, ssl.create_default_context)
    try:
        yield
    finally:
        setattr(ssl, hook, verify)
