"""Words that pieces spell, and alignments between words."""

import re
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from jaxtyping import Float

from heed.text import EOS, SPACE, SPECIALS
from heed.text.printable import printable

END = SPECIALS[EOS]
# Thai, Lao, Burmese, Khmer, Chinese and Japanese.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
BYTE = re.compile("<0x[0-9A-F]{2}>")
CONTINUES = re.compile("<0x[89AB][0-9A-F]>")  # a character that an earlier byte has begun


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


def between_words(
    alignment: Float[np.ndarray, "T S"], words: Sequence[int], src_words: Sequence[int]
) -> Float[np.ndarray, "t s"]:
    """Of an alignment between pieces, that between words: a word of the target gives one of the source what its pieces
    gave the other's, on average.

    `words` and `src_words` say which word each row and each column belongs to, from 0, rising, none left out.
    """
    spread, gather = (np.eye(1 + places[-1], dtype=np.float32)[list(places)] for places in (words, src_words))
    return (spread / spread.sum(0)).T @ alignment @ gather
