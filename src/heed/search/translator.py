"""Translate text: encode lines, search in batches, and return the best translations in order."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from heed.model import Seq2Seq
from heed.ops.linear import packed_weights
from heed.search.beam import Hypothesis, beam_search
from heed.search.settings import SearchSettings
from heed.text import EOS, PAD, SPECIALS, Tokenizer, Tokenizers

log = logging.getLogger(__name__)


class Translation(NamedTuple):
    """One translation of a line. An empty line has an empty translation, with log-probability 0."""

    text: str  # One line, detokenised.
    log_prob: float  # The natural logarithm of the probability, not normalised by length.
    pieces: list[str]  # T labels. The last one is `</s>`.
    src_pieces: list[str]  # S labels. The last one is `</s>`.
    alignment: Float[np.ndarray, "T S"]  # In float32, a row for each piece.


EMPTY = Translation("", 0.0, [], [], np.zeros((0, 0), dtype=np.float32))


class Translator:
    """Translates lines with one model, or with an ensemble that shares `tokenizers`.

    `precision` makes the context that the models compute in. Translation leaves the models' training mode unchanged.
    """

    def __init__(
        self,
        models: Sequence[Seq2Seq],
        tokenizers: Tokenizers,
        settings: SearchSettings,
        device: torch.device | str = "cpu",
        precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ):
        self.models, self.tokenizers, self.settings = models, tokenizers, settings
        self.device, self.precision = device, precision

    def translate(self, lines: Sequence[str], progress: bool = False) -> list[list[Translation]]:
        """Return the `n_best` translations of each line, the best first, in the order of the lines.

        A line without pieces (empty, or nothing but blanks) has one empty translation. A line longer than
        `max_source_length` is cut. A warning counts the lines that were cut.
        """
        sources = self._encode(lines)
        translations = [[EMPTY] for _ in lines]
        # The longest lines come first, so that a lack of memory shows at once.
        order = sorted((i for i, ids in enumerate(sources) if ids), key=lambda i: -len(sources[i]))
        with (
            evaluation_mode(self.models),
            packed_weights(),
            self.precision(),
            tqdm(total=len(order), unit=" lines", disable=not progress) as bar,
        ):
            for batch in by_budget(order, list(map(len, sources)), self.settings.batch_tokens):
                src = [torch.tensor(sources[i]) for i in batch]
                hypotheses = beam_search(
                    self.models,
                    pad_sequence(src, batch_first=True, padding_value=PAD).to(self.device),
                    torch.tensor([len(ids) for ids in src]),
                    self.settings,
                )
                for i, best in zip(batch, hypotheses, strict=True):
                    src_pieces = _pieces(self.tokenizers.src, sources[i])
                    translations[i] = [self._translation(hypothesis, src_pieces) for hypothesis in best]
                bar.update(len(batch))
        return translations

    def _encode(self, lines: Sequence[str]) -> list[list[int]]:
        """Return the ids of each line with EOS, at most `max_source_length` of them. A line without pieces has none."""
        limit = self.settings.max_source_length
        encoded = [
            [*ids, EOS] if ids and line.strip() else []
            for line, ids in zip(lines, self.tokenizers.src.encode_batch(lines), strict=True)
        ]
        long = [i for i, ids in enumerate(encoded) if len(ids) > limit]
        if long:
            log.warning(
                "%d of %d lines cut to search.max_source_length=%d pieces; the first starts %r",
                *(len(long), len(lines), limit, lines[long[0]][:40]),
            )
        return [ids if len(ids) <= limit else [*ids[: limit - 1], EOS] for ids in encoded]

    def _translation(self, hypothesis: Hypothesis, src_pieces: list[str]) -> Translation:
        text = self.tokenizers.tgt.decode(hypothesis.ids[:-1])
        return Translation(
            text.replace("\n", " "),  # some tokenizers yield line feeds
            hypothesis.log_prob,
            _pieces(self.tokenizers.tgt, hypothesis.ids),
            src_pieces,
            hypothesis.alignment,
        )


def _pieces(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    return [*tokenizer.pieces(ids[:-1]), SPECIALS[EOS]]


def by_budget(order: Sequence[int], lengths: Sequence[int], budget: int) -> Iterator[Sequence[int]]:
    """Yield slices of `order` of at most `budget` positions with padding, but at least one item.

    `order` has the longest item first.
    """
    start = 0
    while start < len(order):
        size = max(1, budget // lengths[order[start]])
        yield order[start : start + size]
        start += size


@contextmanager
def evaluation_mode(models: Sequence[Seq2Seq]) -> Iterator[None]:
    """Turn dropout off inside the block. Afterwards, each model is in its former mode."""
    with ExitStack() as stack:
        for model in models:
            stack.callback(model.train, model.training)
            model.eval()
        yield
