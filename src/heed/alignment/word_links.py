"""Links between words, read from the attention between pieces."""

import logging
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from heed.alignment.links import Agreement, Gold, Links, agreement
from heed.alignment.words import between_words, split_pieces
from heed.text import SPACE, Tokenizers
from heed.text.printable import printable

log = logging.getLogger(__name__)
OFFSETS = (-1, 0, 1)
SPECIAL = re.compile("<.+>")  # pieces that are not text: <unk>, a byte <0xE2>


class Aligned(NamedTuple):
    """The word alignment of one sentence pair. Words are split at white space."""

    weights: Float[np.ndarray, "T S"]  # of each target word on each source word; the rest is on EOS
    links: dict[int, Links]  # by offset


def align_words(
    tokenizers: Tokenizers,
    sources: Sequence[str],
    targets: Sequence[str],
    alignments: Sequence[Float[np.ndarray, "_T _S"]],
    offsets: Sequence[int] = (0,),
) -> list[Aligned]:
    """Return the word alignment of each pair from its alignment between pieces.

    The weight of a target word on a source word is the sum over the source word's pieces, averaged over the target
    word's pieces.

    Each target word is linked with the source word of its largest weight, or with none if EOS has the largest. Then
    each source word without a link is linked with the target word that has the largest weight on it. An example is
    `the` of `in the`, if the target has `im`. This is a symmetrisation (Och & Ney 2003).

    Recurrent attention is often late or early by one position. At offset o, piece t therefore takes the weights of
    piece t + o. Pairs whose pieces do not show the words get no links, and a warning counts them.
    """
    aligned, lost = [], 0
    for source, target, alignment in zip(sources, targets, alignments, strict=True):
        src_words, tgt_words = (
            words_of(tokenizer.pieces(tokenizer.encode(line)), line)
            for tokenizer, line in ((tokenizers.src, source), (tokenizers.tgt, target))
        )
        num_src, num_tgt = len(source.split()), len(target.split())
        if not alignment.size or src_words is None or tgt_words is None:
            lost += bool(alignment.size)
            empty = np.zeros((num_tgt, num_src), np.float32)
            aligned.append(Aligned(empty, {offset: set() for offset in offsets}))
            continue
        src_columns = [*src_words, num_src]  # the last column is EOS
        by_offset = {
            offset: between_words(_shifted(alignment, offset), tgt_words, src_columns) for offset in {0, *offsets}
        }
        links = {offset: _links(by_offset[offset]) for offset in offsets}
        aligned.append(Aligned(by_offset[0][:, :num_src], links))
    if lost:
        log.warning("%d of %d pairs got no links: their pieces do not show where words begin", lost, len(sources))
    return aligned


def _links(weights: Float[np.ndarray, "T S+1"]) -> Links:
    """Return the links of an alignment between words, with EOS as the last column."""
    num_src = weights.shape[1] - 1
    links = {
        (int(best), word) for word, best in enumerate(weights.argmax(1)) if best < num_src and weights[word, best] > 0
    }
    left_over = set(range(num_src)) - {src for src, _ in links}
    best = weights.argmax(0)
    return links | {(src, int(best[src])) for src in left_over if weights[best[src], src] > 0}


def _shifted(alignment: Float[np.ndarray, "T S"], offset: int) -> Float[np.ndarray, "t S"]:
    """Return a row for each piece except EOS: the row `offset` pieces later, or zeros if there is none."""
    rows = np.arange(len(alignment) - 1) + offset
    inside = (rows >= 0) & (rows < len(alignment))
    return alignment[np.clip(rows, 0, len(alignment) - 1)] * inside[:, None]


def words_of(pieces: Sequence[str], line: str) -> list[int] | None:
    """Return the number of the word that each piece belongs to, or None if the pieces do not show the words.

    Words are the line split at white space.
    """
    spelled = [_plain(printable(word)) for word in line.split()]
    if len(pieces) == len(spelled) and not any(piece.startswith(SPACE) for piece in pieces):
        words = list(range(len(spelled)))  # pieces are words
    else:
        _, words = split_pieces(pieces, spaced=True)
        last = max((word for piece, word in zip(pieces, words, strict=True) if piece.strip(SPACE)), default=-1)
        if last != len(spelled) - 1 or last < 0:
            return None
        words = [min(word, last) for word in words]  # a space at the end belongs to the last word

    # The number of words may agree by chance if a tokenizer drops some words and splits others.
    found = (
        SPECIAL.fullmatch(piece) or _plain(piece) in spelled[word] for piece, word in zip(pieces, words, strict=True)
    )
    return words if all(found) else None


def _plain(text: str) -> str:
    """Return the text in a form that is equal before and after a tokenizer's normalisation, without '▁'."""
    return unicodedata.normalize("NFKD", text).casefold().replace(SPACE, "")


def measure(aligned: Sequence[Aligned], gold: Sequence[Gold]) -> dict[int, Agreement]:
    """Return the agreement with the gold links at each offset."""
    return {offset: agreement([pair.links[offset] for pair in aligned], gold) for offset in aligned[0].links}
