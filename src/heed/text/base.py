"""The interface of tokenizers: text to ids and back."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from heed.errors import UserError
from heed.files.checksums import read_json

if TYPE_CHECKING:
    from torch import Tensor

PAD, UNK, BOS, EOS = 0, 1, 2, 3
"""Ids of the four special symbols, the same in every vocabulary."""
SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")
"""Their labels in a heat map. In a text they have no meaning: `</s>` in a line is four characters."""
SPACE = "▁"
"""Begins the first piece of each word in a subword vocabulary."""
UNKNOWN = "\ufffd"
"""The text of the id UNK: Unicode's replacement character."""


class Tokenizer(ABC):
    """A trained tokenizer of one language, or of both languages if they share one vocabulary."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the size of the vocabulary, V, which includes the four special symbols."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the ids of a line, without BOS and EOS. An empty line gives an empty list."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of many lines. A subclass may override this with a faster way."""
        return [self.encode(text) for text in texts]

    def sample_batch(self, texts: Sequence[str], alpha: float, seed: int) -> list[list[int]]:
        """Return the ids of many lines, each line split into pieces at random.

        `seed` determines the split, and `alpha` how random it is. The ids decode to the same text as those
        of `encode`. Raises `TypeError` if the tokenizer can split a text in one way only.
        """
        raise TypeError(f"{type(self).__name__} splits a text in one way only: it has nothing to sample from")

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids, without PAD, BOS and EOS, as one line: a line end becomes a space."""

    @abstractmethod
    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return one printable label per id, for heat maps."""


@dataclass
class TokenizerSettings(ABC):
    """Settings of a tokenizer. The fields are the keys of its `configs/tokenizer/*.yaml`."""

    joint: bool = True  # True: one vocabulary for both languages; False: one per side
    samples: ClassVar[bool] = False  # True if the tokenizer has `sample_batch`

    @abstractmethod
    def train(self, texts: Iterable[str], path: Path) -> Tokenizer:
        """Learn from the lines, write the model to the file `path`, and return the tokenizer."""

    @abstractmethod
    def load(self, path: Path) -> Tokenizer:
        """Read a model that `train` wrote. Nothing in the file is executed."""

    def pretrained(self, tokenizer: Tokenizer, dim: int) -> "tuple[Tensor, Tensor] | None":
        """Return the ids of the symbols that have pretrained embeddings, "N", and these embeddings, "N E".

        `dim` is the size E of the model's embeddings. None if there are no pretrained embeddings.
        """
        return None


def read_model(path: Path, kind: str) -> dict[str, Any]:
    """Read a model that `write_json` wrote. Raises `UserError` if it is damaged or of another `kind`."""
    try:
        model = read_json(path)
    except UserError as error:
        raise UserError(f"{path}: broken tokenizer model ({error}); prepare the data again") from error
    if model.get("kind") != kind:
        raise UserError(f"{path}: not a model of tokenizer={kind}; choose the tokenizer that wrote it")
    return model
