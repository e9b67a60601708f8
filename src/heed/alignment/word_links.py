"""Attention between pieces, read as links between words."""

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
SPECIAL = re.compile("<.+>")  # pieces that spell no text: <unk>, a byte <0xE2>


class Aligned(NamedTuple):
    """One sentence pair, between words as split at white space."""

    weights: Float[np.ndarray, "T S"]  # what each target word gave each source word; EOS has the rest
    links: dict[int, Links]  # by offset


def align_words(
    tokenizers: Tokenizers,
    sources: Sequence[str],
    targets: Sequence[str],
    alignments: Sequence[Float[np.ndarray, "_T _S"]],
    offsets: Sequence[int] = (0,),
) -> list[Aligned]:
    """Alignments of pieces as alignments of words.

    A target word gives a source word what its pieces gave the other's, on average. It is linked with the source
    word that it gave most, or with none if EOS got more (so `none`, whose weights are 0, links nothing). A source word
    that is left over (`the` of `in the`, where the target has `im`) is linked with the target word that gave it most:
    the union of what either side would choose (Och & Ney 2003, on symmetrisation). At offset o, piece t is taken to
    have looked where piece t + o did: recurrent attention is known to be late or early by one. Lines whose pieces do
    not show their words get no links, with a warning that counts them.
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
        of_words = {
            offset: between_words(_shifted(alignment, offset), tgt_words, [*src_words, num_src])  # last: EOS
            for offset in {0, *offsets}
        }
        links = {offset: _links(of_words[offset]) for offset in offsets}
        aligned.append(Aligned(of_words[0][:, :num_src], links))
    if lost:
        log.warning(
            "%d of %d pairs got no links: their pieces do not show where words begin", lost, len(sources)
        )
    return aligned


def _links(weights: Float[np.ndarray, "T S+1"]) -> Links:
    """From what each target word gave each source word, and EOS in the last column."""
    num_src = weights.shape[1] - 1
    links = {
        (int(best), word)
        for word, best in enumerate(weights.argmax(1))
        if best < num_src and weights[word, best] > 0
    }
    left_over = set(range(num_src)) - {src for src, _ in links}
    best = weights.argmax(0)
    return links | {(src, int(best[src])) for src in left_over if weights[best[src], src] > 0}


def _shifted(alignment: Float[np.ndarray, "T S"], offset: int) -> Float[np.ndarray, "t S"]:
    """A row for each piece but EOS: that of `offset` pieces later, zero where there is none."""
    rows = np.arange(len(alignment) - 1) + offset
    inside = (rows >= 0) & (rows < len(alignment))
    return alignment[np.clip(rows, 0, len(alignment) - 1)] * inside[:, None]


def words_of(pieces: Sequence[str], line: str) -> list[int] | None:
    """Which word of the line, as split at white space, each piece belongs to; None where the pieces do not tell."""
    spelled = [_plain(printable(word)) for word in line.split()]
    if len(pieces) == len(spelled) and not any(piece.startswith(SPACE) for piece in pieces):
        words = list(range(len(spelled)))  # pieces are words
    else:
        _, words = split_pieces(pieces, spaced=True)
        last = max(
            (word for piece, word in zip(pieces, words, strict=True) if piece.strip(SPACE)), default=-1
        )
        if last != len(spelled) - 1 or last < 0:
            return None
        words = [min(word, last) for word in words]  # a space at the end, which no word follows
    # As many words may still be other words, where a tokenizer drops or joins some.
    found = (
        SPECIAL.fullmatch(piece) or _plain(piece) in spelled[word]
        for piece, word in zip(pieces, words, strict=True)
    )
    return words if all(found) else None


def _plain(text: str) -> str:
    """The same of what tokenizers that normalise make of a text, and those that do not; no mark of a word's begin."""
    return unicodedata.normalize("NFKD", text).casefold().replace(SPACE, "")


def measure(aligned: Sequence[Aligned], gold: Sequence[Gold]) -> dict[int, Agreement]:
    """Agreement with the gold links at each offset."""
    return {offset: agreement([pair.links[offset] for pair in aligned], gold) for offset in aligned[0].links}
