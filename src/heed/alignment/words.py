"""Words made of pieces, and alignments between words."""

import re
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from jaxtyping import Float

from heed.text import EOS, SPACE, SPECIALS
from heed.text.printable import printable

END = SPECIALS[EOS]
# Scripts without spaces: Thai, Lao, Burmese, Khmer, Chinese and Japanese.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
BYTE = re.compile("<0x[0-9A-F]{2}>")
CONTINUES = re.compile("<0x[89AB][0-9A-F]>")  # a byte that continues a UTF-8 character


def merge_words(
    pieces: Sequence[str], src_pieces: Sequence[str], alignment: Float[np.ndarray, "T S"]
) -> tuple[list[str], list[str], Float[np.ndarray, "t s"]]:
    """Return the target words, the source words, and the alignment between them. Its rows still sum to 1.

    On a side with '▁', a word begins at each '▁'. On a side without it, each piece is a word, and so are the bytes of a
    character together. The same holds in a script without spaces if '▁' would give fewer than two words. `</s>` is
    always a word. An empty alignment gives `[]`, `[]` and a 0 × 0 matrix.
    """
    if not alignment.size:
        return [], [], np.zeros((0, 0), np.float32)
    (words, word_of), (src_words, src_word_of) = _words(pieces), _words(src_pieces)
    return words, src_words, between_words(alignment, word_of, src_word_of)


def _words(pieces: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the words, and the number of the word that each piece belongs to."""
    spaced = any(piece.startswith(SPACE) for piece in pieces)
    words, word_of = split_pieces(pieces, spaced)
    if spaced and len(words) - words.count(END) < 2 and UNSPACED.search(words[0]):
        words, word_of = split_pieces(pieces, False)
    return [word or SPACE for word in words], word_of  # an empty word is a space at the end


def split_pieces(pieces: Sequence[str], spaced: bool) -> tuple[list[str], list[int]]:
    """Return the words, and the number of the word that each piece belongs to.

    If `spaced`, words begin at '▁'. Otherwise each piece is a word.
    """
    words: list[list[str]] = []
    word_of = []
    for piece in pieces:
        word = words[-1] if words else []
        lone_space = not any(one.strip(SPACE) for one in word)  # a '▁' before its word
        continues = bool(word) and BYTE.fullmatch(word[-1]) and CONTINUES.fullmatch(piece)
        begins = piece.startswith(SPACE) if spaced else not continues
        if not word or END in (piece, word[-1]) or (begins and not lone_space):
            words.append([])
        words[-1].append(piece)
        word_of.append(len(words) - 1)
    return [_text(word) for word in words], word_of


def _text(pieces: Sequence[str]) -> str:
    """Return the text of a word's pieces, without the space before it. Pieces that are bytes are decoded together."""
    parts = []
    for are_bytes, group in groupby(pieces, lambda piece: bool(BYTE.fullmatch(piece))):
        if are_bytes:
            parts.append(printable(bytes(int(byte[3:5], 16) for byte in group).decode(errors="replace")))
        else:
            parts.extend(group)
    return "".join(parts).lstrip(SPACE)


def between_words(
    alignment: Float[np.ndarray, "T S"], word_of: Sequence[int], src_word_of: Sequence[int]
) -> Float[np.ndarray, "t s"]:
    """Return the alignment between words. Weights are summed over source pieces and averaged over target pieces.

    `word_of` and `src_word_of` number the word of each row and each column: from 0, ascending, without gaps.
    """
    rows, columns = (np.eye(1 + word[-1], dtype=np.float32)[list(word)] for word in (word_of, src_word_of))
    return (rows / rows.sum(0)).T @ alignment @ columns
