"""What every tokenizer is: text to ids and back."""

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from heed.seals import read_json

if TYPE_CHECKING:
    from torch import Tensor

PAD, UNK, BOS, EOS = 0, 1, 2, 3
"""Ids of the four special symbols, the same in every vocabulary."""
SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")
"""How a heat map labels them. As text they mean nothing: a line that holds `</s>` holds four characters."""
SPACE = "▁"
"""What begins the first piece of a word, where pieces are parts of words."""
UNKNOWN = "\ufffd"
"""What the id UNK decodes to: Unicode's mark for a lost character."""
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # Unicode's categories of what has no shape
JOINERS = "\u200c\u200d"  # invisible, but part of the spelling in Persian, Hindi, emoji


class Tokenizer(ABC):
    """A trained tokenizer of one language, or of both where they share one vocabulary."""

    @abstractmethod
    def __len__(self) -> int:
        """Size of the vocabulary, V, with the four special symbols."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of a line, without BOS and EOS. An empty line gives an empty list."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many lines; a subclass overrides it where its library has a faster way."""
        return [self.encode(text) for text in texts]

    def sample_batch(self, texts: Sequence[str], alpha: float, seed: int) -> list[list[int]]:
        """Ids of many lines, each cut into pieces at random: the same for the same seed, decoded the same as ever.

        `alpha` is how wild. `TypeError` where the tokenizer has but one way.
        """
        raise TypeError(f"{type(self).__name__} cuts a text in one way only: it has nothing to sample from")

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; PAD, BOS and EOS are left out. One line: a line end that ids spell is a space."""

    @abstractmethod
    def pieces(self, ids: Sequence[int]) -> list[str]:
        """One printable label per id, as a heat map shows it."""


@dataclass
class TokenizerSettings(ABC):
    """A recipe that `configs/tokenizer/*.yaml` fills; its fields are the keys of the YAML."""

    joint: bool = True  # one vocabulary for both languages, or one per side
    samples: ClassVar[bool] = False  # whether its tokenizer has `sample_batch`

    @abstractmethod
    def train(self, texts: Iterable[str], path: Path) -> Tokenizer:
        """Learns from the lines, writes the model to the file `path`, returns the tokenizer."""

    @abstractmethod
    def load(self, path: Path) -> Tokenizer:
        """Reads what `train` wrote. Executes nothing that the file says."""

    def pretrained(self, tokenizer: Tokenizer, dim: int) -> "tuple[Tensor, Tensor] | None":
        """Ids of the N symbols whose embeddings of size `dim` are given, "N", and these, "N E"; None without any."""
        return None


def printable(text: str) -> str:
    """The text with what is invisible, commands a terminal or reorders a line as `\\x1b`, `\\u202e`, a blank as `␣`."""
    shown = "".join(
        c if c in JOINERS or unicodedata.category(c) not in HIDDEN else c.encode("unicode_escape").decode()
        for c in text
    )
    return "␣" * len(shown) if shown.isspace() else shown


def read_model(path: Path, kind: str) -> dict[str, Any]:
    """Reads a model that `write_json` wrote; a `ValueError` where the file is broken or its `kind` is another."""
    try:
        model = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path}: broken tokenizer model ({error}); prepare the data again") from error
    if model.get("kind") != kind:
        raise ValueError(f"{path}: not a model of tokenizer={kind}; choose the tokenizer that wrote it")
    return model
