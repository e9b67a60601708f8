"""The sentences of an evaluation between words, as the page shows them and as `sentences.jsonl` keeps them."""

import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import Float

from heed.evaluation.alignment import between_words
from heed.files import write_text
from heed.text import EOS, SPACE, SPECIALS
from heed.text.tokenizer import printable

END = SPECIALS[EOS]
# Thai, Lao, Burmese, Khmer, Chinese and Japanese.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
BYTE = re.compile("<0x[0-9A-F]{2}>")
CONTINUES = re.compile("<0x[89AB][0-9A-F]>")  # a character that an earlier byte has begun
DIGITS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"  # 64 levels of a weight


@dataclass
class Shown:
    """One system's translation of one sentence, between words."""

    words: list[str]  # of the hypothesis; the last may be `</s>`
    weights: Float[np.ndarray, "T S"]  # what each of them gave each source word; 0 × 0 where nobody knows
    bleu: float  # of the sentence, 0 to 100


def merge_words(
    pieces: Sequence[str], src_pieces: Sequence[str], alignment: Float[np.ndarray, "T S"]
) -> tuple[list[str], list[str], Float[np.ndarray, "t s"]]:
    """The words that pieces spell on either side, and the alignment between them, whose rows still sum to 1.

    Words begin at '▁', if a side has one; else, and where that would leave fewer than two words in a script without
    spaces, each piece is a word, and the bytes of a character are one. `</s>` always is. An empty alignment has no
    words: `[]`, `[]`, 0 × 0.
    """
    if not alignment.size:
        return [], [], np.zeros((0, 0), np.float32)
    (words, places), (src_words, src_places) = _words(pieces), _words(src_pieces)
    return words, src_words, between_words(alignment, places, src_places)


def _words(pieces: Sequence[str]) -> tuple[list[str], list[int]]:
    """The words, and which of them each piece belongs to."""
    spaced = any(piece.startswith(SPACE) for piece in pieces)
    words, places = split_pieces(pieces, spaced)
    if spaced and len(words) - words.count(END) < 2 and UNSPACED.search(words[0]):
        words, places = split_pieces(pieces, False)
    return [word or SPACE for word in words], places  # a space that no word follows


def split_pieces(pieces: Sequence[str], spaced: bool) -> tuple[list[str], list[int]]:
    """The words, and which of them each piece belongs to. They begin at '▁' (`spaced`), or each piece is one."""
    words: list[list[str]] = []
    places = []
    for piece in pieces:
        word = words[-1] if words else []
        waits = not any(one.strip(SPACE) for one in word)  # a lone '▁', for its word
        continues = bool(word) and BYTE.fullmatch(word[-1]) and CONTINUES.fullmatch(piece)
        begins = piece.startswith(SPACE) if spaced else not continues
        if not word or END in (piece, word[-1]) or (begins and not waits):
            words.append([])
        words[-1].append(piece)
        places.append(len(words) - 1)
    return [_spelt(word) for word in words], places


def _spelt(pieces: Sequence[str]) -> str:
    """The text of a word's pieces, without the space before it; those that are bytes spell characters together."""
    parts = []
    for are_bytes, group in groupby(pieces, lambda piece: bool(BYTE.fullmatch(piece))):
        if are_bytes:
            parts.append(printable(bytes(int(byte[3:5], 16) for byte in group).decode(errors="replace")))
        else:
            parts.extend(group)
    return "".join(parts).lstrip(SPACE)


def save_sentences(
    path: Path, source_words: Sequence[Sequence[str]], references: Sequence[str], shown: Sequence[Shown]
) -> None:
    """Writes one JSON object per line of the corpus: `source`, `reference`, `words`, `weights`, `bleu`.

    `weights` is one text, row after row: a digit of base64 (A to Z, a to z, 0 to 9, +, /) per weight, 0 to 63
    for 0 to 1. So a weight that is read again is off by 1/126 at most. Raises a `ValueError` as `write_page`.
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
    """Reads what `save_sentences` wrote: source words, references, and what is shown. `ValueError` on a bad line."""
    sources, references, shown = [], [], []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):  # bytes: at line ends alone
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
            raise ValueError(
                f"{path}, line {number}: not a sentence of an evaluation ({error!r}); evaluate the run again"
            ) from error
        sources.append(source)
        references.append(one["reference"])
    return sources, references, shown


def check_sentences(
    sources: Sequence[Sequence[str]], references: Sequence[str], systems: Mapping[str, Sequence[Shown]]
) -> None:
    """`ValueError` where counts of sentences differ, or weights have another shape than words × source words."""
    for name, many in {"references": references, **systems}.items():
        if len(many) != len(sources):
            raise ValueError(f"{name}: {len(many)} sentences, but {len(sources)} sources")
    for name, shown in systems.items():
        for number, (source, one) in enumerate(zip(sources, shown, strict=True), 1):
            if one.weights.size and one.weights.shape != (len(one.words), len(source)):
                raise ValueError(
                    f"{name}, sentence {number}: weights of shape {one.weights.shape}, "
                    f"but {len(one.words)} words for {len(source)} of the source"
                )


def digits(weights: Float[np.ndarray, "T S"]) -> str:
    """The weights, row after row, a digit of base64 each, 0 to 63 for 0 to 1."""
    levels = np.rint(np.clip(np.nan_to_num(weights), 0, 1) * (len(DIGITS) - 1)).astype(int)
    return "".join(DIGITS[level] for level in levels.flat)
