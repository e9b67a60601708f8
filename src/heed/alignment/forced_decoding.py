"""Forced decoding: the alignments and the probabilities of given translations."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import log as ln
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from heed.model import Seq2Seq
from heed.ops.cross_entropy import perplexity
from heed.search.settings import SearchSettings
from heed.search.translator import by_budget, evaluation_mode
from heed.text import BOS, EOS, PAD, Tokenizers

log = logging.getLogger(__name__)


class Forced(NamedTuple):
    """The result of forced decoding for one sentence pair."""

    alignment: Float[np.ndarray, "T S"]  # between pieces, including EOS; 0 × 0 if a side is empty
    log_prob: float  # natural logarithm, of all T pieces of the target


def force_decode(
    models: Sequence[Seq2Seq],
    tokenizers: Tokenizers,
    sources: Sequence[str],
    targets: Sequence[str],
    device: torch.device | str = "cpu",
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    batch_tokens: int = 2048,
    max_length: int = SearchSettings.max_source_length,
    progress: bool = False,
) -> list[Forced]:
    """Return the alignment and the log-probability of each pair, with the target as the decoder's input.

    Row t of an alignment holds the weights with which piece t was predicted. An ensemble gives the mean alignment, and
    the logarithm of the mean probability of each piece.

    A pair is skipped, and gets an empty alignment, if a side is empty or has more than `max_length` pieces, including
    EOS. A warning counts the long pairs: the size of an alignment is the product of both lengths.
    """
    encoded = [
        [torch.tensor([*ids, EOS]) for ids in tokenizer.encode_batch(lines)]
        for tokenizer, lines in ((tokenizers.src, sources), (tokenizers.tgt, targets))
    ]
    found = [Forced(np.zeros((0, 0), np.float32), 0.0) for _ in sources]
    not_empty = [i for i in range(len(sources)) if len(encoded[0][i]) > 1 and len(encoded[1][i]) > 1]
    longest = [max(len(side[i]) for side in encoded) for i in range(len(sources))]
    pairs = [i for i in not_empty if longest[i] <= max_length]
    if len(pairs) < len(not_empty):
        log.warning(
            "%d pairs have more than %d pieces on a side: they get no alignment and do not count in the perplexity",
            len(not_empty) - len(pairs),
            max_length,
        )
    pairs.sort(key=lambda i: -longest[i])
    with (
        evaluation_mode(models),
        torch.no_grad(),
        precision(),
        tqdm(total=len(pairs), unit=" pairs", disable=not progress) as bar,
    ):
        for batch in by_budget(pairs, longest, batch_tokens):
            src, tgt = (pad_sequence([side[i] for i in batch], batch_first=True, padding_value=PAD) for side in encoded)
            tgt_in = torch.cat([tgt.new_full((len(batch), 1), BOS), tgt[:, :-1]], 1).to(device)
            lengths = torch.tensor([len(encoded[0][i]) for i in batch])
            decoded = [_decode(model, src.to(device), lengths, tgt_in, tgt.to(device)) for model in models]
            alignments, log_probs = (torch.stack(one) for one in zip(*decoded, strict=True))
            # The search of an ensemble averages probabilities too, not their logarithms.
            log_prob = ((log_probs.logsumexp(0) - ln(len(models))) * (tgt != PAD).to(device)).sum(1)
            rows = zip(batch, alignments.mean(0).cpu().numpy(), log_prob.tolist(), strict=True)
            for i, matrix, total in rows:
                found[i] = Forced(matrix[: len(encoded[1][i]), : len(encoded[0][i])], total)
            bar.update(len(batch))
    return found


def _decode(
    model: Seq2Seq, src: Tensor, lengths: Tensor, tgt_in: Tensor, tgt: Tensor
) -> tuple[Float[Tensor, "B T S"], Float[Tensor, "B T"]]:
    """Return the alignment and the log-probability of each target piece."""
    readouts, alignment = model(src, lengths, tgt_in)
    log_probs = F.cross_entropy(model.output(readouts).float().transpose(1, 2), tgt, reduction="none")
    return alignment.float(), -log_probs


def perplexity_of(forced: Sequence[Forced]) -> float | None:
    """Return the perplexity of each target piece, including EOS, or None without any pair. Depends on the tokenizer."""
    tokens = sum(len(pair.alignment) for pair in forced)
    return perplexity(-sum(pair.log_prob for pair in forced) / tokens) if tokens else None
