"""The two tokenizers of a translation model, which may be one and the same."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from heed.text.tokenizer import Tokenizer, TokenizerSettings


class Tokenizers(NamedTuple):
    """One tokenizer per side; `joint` where both sides share one, and so one vocabulary."""

    src: Tokenizer
    tgt: Tokenizer

    @property
    def joint(self) -> bool:
        """Whether both sides share one vocabulary."""
        return self.src is self.tgt


def train_pair(
    settings: TokenizerSettings, pairs: Callable[[], Iterator[tuple[str, str]]], directory: Path
) -> Tokenizers:
    """Learns from the (source, target) lines, which `pairs()` streams from the start each time it is called.

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
    """Reads what `train_pair` wrote; a `ValueError` names a file that is missing or broken."""
    names = ["tokenizer.model"] if settings.joint else ["tokenizer.src.model", "tokenizer.tgt.model"]
    for name in names:
        if not (directory / name).is_file():
            raise ValueError(
                f"{directory / name}: no such file, which tokenizer.joint={settings.joint} asks for; "
                "prepare the data again or name a directory that holds a finished run"
            )
    loaded = [settings.load(directory / name) for name in names]
    return Tokenizers(loaded[0], loaded[-1])
