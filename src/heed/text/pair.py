"""The source and target tokenizers of a translation model, which may be the same object."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from heed.errors import UserError
from heed.text.base import Tokenizer, TokenizerSettings


class Tokenizers(NamedTuple):
    """The tokenizers of the source and the target."""

    src: Tokenizer
    tgt: Tokenizer

    @property
    def joint(self) -> bool:
        """True if both sides share one tokenizer, and so one vocabulary."""
        return self.src is self.tgt


def train_pair(
    settings: TokenizerSettings, pairs: Callable[[], Iterator[tuple[str, str]]], directory: Path
) -> Tokenizers:
    """Train the tokenizers on the (source, target) lines that each call of `pairs()` streams from the start.

    Writes `tokenizer.model`, or `tokenizer.src.model` and `tokenizer.tgt.model`, into the directory.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if settings.joint:
        lines = (line for pair in pairs() for line in pair)
        both = settings.train(lines, directory / "tokenizer.model")
        return Tokenizers(both, both)
    src = settings.train((src for src, _ in pairs()), directory / "tokenizer.src.model")
    tgt = settings.train((tgt for _, tgt in pairs()), directory / "tokenizer.tgt.model")
    return Tokenizers(src, tgt)


def load_pair(settings: TokenizerSettings, directory: Path) -> Tokenizers:
    """Read tokenizers that `train_pair` wrote. Raises `UserError` if a file is missing or broken."""
    names = ["tokenizer.model"] if settings.joint else ["tokenizer.src.model", "tokenizer.tgt.model"]
    for name in names:
        if not (directory / name).is_file():
            raise UserError(
                f"{directory / name}: no such file, but tokenizer.joint={settings.joint} needs it. "
                "Prepare the data again, or name the directory of a finished run"
            )
    loaded = [settings.load(directory / name) for name in names]
    return Tokenizers(loaded[0], loaded[-1])
