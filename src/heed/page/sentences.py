"""The sentences of an evaluation with their word alignments: on the page, and in `sentences.jsonl`."""

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from heed.errors import UserError
from heed.files.atomic import write_text

DIGITS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"  # base64: 64 levels of a weight


@dataclass
class Shown:
    """One system's translation of one sentence, with the weights between words."""

    words: list[str]  # of the hypothesis; the last word may be `</s>`
    weights: Float[np.ndarray, "T S"]  # of each word on each source word; 0 × 0 if unknown
    bleu: float  # sentence BLEU, 0 to 100


def save_sentences(
    path: Path, source_words: Sequence[Sequence[str]], references: Sequence[str], shown: Sequence[Shown]
) -> None:
    """Write one JSON object per line of the corpus: `source`, `reference`, `words`, `weights`, `bleu`.

    `weights` is one text, row after row (see `digits`). A weight that is read again differs by at most 1/126. Raises
    `UserError` as `write_page` does.
    """
    check_sentences(source_words, references, {path.name: shown})
    lines = [
        {
            "source": list(source),
            "reference": reference,
            "words": one.words,
            "weights": digits(one.weights),
            "bleu": one.bleu,
        }
        for source, reference, one in zip(source_words, references, shown, strict=True)
    ]
    text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    write_text(path, text)


def load_sentences(path: Path) -> tuple[list[list[str]], list[str], list[Shown]]:
    """Return the source words, references and translations that `save_sentences` wrote.

    Raises `UserError` if a line is damaged.
    """
    sources, references, shown = [], [], []
    # `str.splitlines` would split at more characters than line ends.
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            one = json.loads(line)
            source, words, code = one["source"], one["words"], one["weights"]
            if not (isinstance(source, list) and isinstance(words, list)):
                raise TypeError("source and words are lists")
            if not all(isinstance(text, str) for text in [*source, *words, code, one["reference"]]):
                raise TypeError("words, weights and reference are text")
            shape = (len(words), len(source)) if code else (0, 0)
            weights = np.array([DIGITS.index(digit) for digit in code], np.float32).reshape(shape)
            shown.append(Shown(words, weights / (len(DIGITS) - 1), float(one["bleu"])))
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path}, line {number}: not a sentence of an evaluation ({error!r}). Evaluate the run again"
            ) from error
        sources.append(source)
        references.append(one["reference"])
    return sources, references, shown


def check_sentences(
    sources: Sequence[Sequence[str]], references: Sequence[str], systems: Mapping[str, Sequence[Shown]]
) -> None:
    """Raise `UserError` if numbers of sentences differ, or weights have another shape than words × source words."""
    for name, many in {"references": references, **systems}.items():
        if len(many) != len(sources):
            raise UserError(f"{name}: {len(many)} sentences, but {len(sources)} sources")
    for name, shown in systems.items():
        for number, (source, one) in enumerate(zip(sources, shown, strict=True), 1):
            if one.weights.size and one.weights.shape != (len(one.words), len(source)):
                raise UserError(
                    f"{name}, sentence {number}: weights of shape {one.weights.shape}, "
                    f"but {len(one.words)} words and {len(source)} source words"
                )


def digits(weights: Float[np.ndarray, "T S"]) -> str:
    """Return the weights, row after row, as one digit of base64 each: 0 to 63 for 0 to 1."""
    levels = np.rint(np.clip(np.nan_to_num(weights), 0, 1) * (len(DIGITS) - 1)).astype(int)
    return "".join(DIGITS[level] for level in levels.flat)
