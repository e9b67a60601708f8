"""Given translations: the model is made to say them, which shows its attention and how probable they are to it."""

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
    """One sentence pair that the model was made to say."""

    alignment: Float[np.ndarray, "T S"]  # between pieces, EOS with both; 0 × 0 where a side is empty
    log_prob: float  # of all T pieces of the target, natural logarithm


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
        log.warning(
            "%d pairs have more than %d pieces on a side, the end symbol counted: they have no alignment, and no part "
            "in the perplexity",
            len(full) - len(pairs),
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
            src, tgt = (
                pad_sequence([side[i] for i in batch], batch_first=True, padding_value=PAD)
                for side in encoded
            )
            tgt_in = torch.cat([tgt.new_full((len(batch), 1), BOS), tgt[:, :-1]], 1).to(device)
            lengths = torch.tensor([len(encoded[0][i]) for i in batch])
            told = [_foretell(model, src.to(device), lengths, tgt_in, tgt.to(device)) for model in models]
            alignments, log_probs = (torch.stack(one) for one in zip(*told, strict=True))
            # Of probabilities, not of their logarithms: an ensemble's word has the mean of what the models give it.
            log_prob = ((log_probs.logsumexp(0) - ln(len(models))) * (tgt != PAD).to(device)).sum(1)
            rows = zip(batch, alignments.mean(0).cpu().numpy(), log_prob.tolist(), strict=True)
            for i, matrix, total in rows:
                found[i] = Forced(matrix[: len(encoded[1][i]), : len(encoded[0][i])], total)
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
