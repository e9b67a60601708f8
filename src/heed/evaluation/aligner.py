"""Alignments of given translations: the model is made to say them, and its attention is read as word links."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import log
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from heed.evaluation.alignment import between_words
from heed.evaluation.links import Agreement, Gold, Links, agreement
from heed.evaluation.metrics import perplexity
from heed.model import Seq2Seq
from heed.text import BOS, EOS, PAD, Tokenizers

logger = logging.getLogger(__name__)
OFFSETS = (-1, 0, 1)
SPACE = "▁"  # what begins the first piece of a word


class Forced(NamedTuple):
    """One sentence pair that the model was made to say."""

    alignment: Float[np.ndarray, "T S"]  # between pieces, EOS with both; 0 × 0 where a side is empty
    log_prob: float  # of all T pieces of the target, natural logarithm


class Aligned(NamedTuple):
    """One sentence pair, between words as split at white space."""

    weights: Float[np.ndarray, "T S"]  # what each target word gave each source word; EOS has the rest
    links: dict[int, Links]  # by offset


def force_decode(
    models: Sequence[Seq2Seq],
    tokenizers: Tokenizers,
    sources: Sequence[str],
    targets: Sequence[str],
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    batch_tokens: int = 2048,
    max_length: int = 1024,
    progress: bool = False,
) -> list[Forced]:
    """Alignment and probability of each pair's pieces, given the target; of several models the means of both.

    Row t is the attention with which piece t was foretold. Pairs with more than `max_length` pieces on a side, EOS
    counted, are left out like empty ones, with a warning: an alignment has as many numbers as their product.
    """
    encoded = [
        [torch.tensor([*ids, EOS]) for ids in tokenizer.encode_batch(lines)]
        for tokenizer, lines in ((tokenizers.src, sources), (tokenizers.tgt, targets))
    ]
    found = [Forced(np.zeros((0, 0), np.float32), 0.0) for _ in sources]
    full = [i for i in range(len(sources)) if len(encoded[0][i]) > 1 and len(encoded[1][i]) > 1]
    longest = [max(len(side[i]) for side in encoded) for i in range(len(sources))]
    pairs = [i for i in full if longest[i] <= max_length]
    if len(pairs) < len(full):
        logger.warning(
            "%d pairs have more than %d pieces on a side, the end symbol counted: they have no alignment, and no part "
            "in the perplexity",
            len(full) - len(pairs),
            max_length,
        )
    pairs.sort(key=lambda i: -longest[i])
    for model in models:
        model.eval()
    with torch.no_grad(), autocast(), tqdm(total=len(pairs), unit=" pairs", disable=not progress) as bar:
        start = 0
        while start < len(pairs):
            batch = pairs[start : start + max(1, batch_tokens // longest[pairs[start]])]
            src, tgt = (
                pad_sequence([side[i] for i in batch], batch_first=True, padding_value=PAD)
                for side in encoded
            )
            tgt_in = torch.cat([tgt.new_full((len(batch), 1), BOS), tgt[:, :-1]], 1).to(device)
            lengths = torch.tensor([len(encoded[0][i]) for i in batch])
            told = [_foretell(model, src.to(device), lengths, tgt_in, tgt.to(device)) for model in models]
            alignments, log_probs = (torch.stack(one) for one in zip(*told, strict=True))
            # Of probabilities, not of their logarithms: an ensemble's word has the mean of what the models give it.
            log_prob = ((log_probs.logsumexp(0) - log(len(models))) * (tgt != PAD).to(device)).sum(1)
            rows = zip(batch, alignments.mean(0).cpu().numpy(), log_prob.tolist(), strict=True)
            for i, matrix, total in rows:
                found[i] = Forced(matrix[: len(encoded[1][i]), : len(encoded[0][i])], total)
            start += len(batch)
            bar.update(len(batch))
    return found


def _foretell(
    model: Seq2Seq, src: Tensor, lengths: Tensor, tgt_in: Tensor, tgt: Tensor
) -> tuple[Float[Tensor, "B T S"], Float[Tensor, "B T"]]:
    """Alignment, and the log-probability of each piece."""
    readouts, alignment = model(src, lengths, tgt_in)
    log_probs = F.cross_entropy(model.output(readouts).float().transpose(1, 2), tgt, reduction="none")
    return alignment.float(), -log_probs


def perplexity_of(forced: Sequence[Forced]) -> float | None:
    """For each piece of the targets, EOS with them; None where there is none. Depends on what the pieces are."""
    tokens = sum(len(pair.alignment) for pair in forced)
    return perplexity(-sum(pair.log_prob for pair in forced) / tokens) if tokens else None


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
        logger.warning(
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
    num_words = len(line.split())
    if not any(piece.startswith(SPACE) for piece in pieces) and len(pieces) == num_words:
        return list(range(num_words))  # pieces are words
    begins = [piece.startswith(SPACE) for piece in pieces]
    words = [sum(begins[1 : i + 1]) for i in range(len(pieces))]
    return words if words and words[-1] == num_words - 1 else None


def measure(aligned: Sequence[Aligned], gold: Sequence[Gold]) -> dict[int, Agreement]:
    """Agreement with the gold links at each offset."""
    return {offset: agreement([pair.links[offset] for pair in aligned], gold) for offset in aligned[0].links}
