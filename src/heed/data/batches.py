"""Batches of sentences of similar lengths, with a token budget. Seed and epoch determine their order."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from heed.data.store import EncodedPairs, Lines, padded
from heed.errors import UserError
from heed.text.base import BOS, EOS, PAD
from heed.text.pair import Tokenizers

T = TypeVar("T")
AHEAD = 4  # batches prepared in advance


class Batch(NamedTuple):
    """Sentence pairs as tensors, padded on the right with PAD."""

    src: Int64[Tensor, "B S"]  # each row ends in EOS
    src_lengths: Int64[Tensor, " B"]  # EOS counted, so 1 or more
    tgt_in: Int64[Tensor, "B T"]  # the input of the decoder, which begins with BOS
    tgt_out: Int64[Tensor, "B T"]  # the targets: `tgt_in` one step later, and EOS
    tgt_lengths: Int64[Tensor, " B"]
    indices: Int64[Tensor, " B"]  # indices of the sentences in the split

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch with its ids on `device`. Lengths and indices stay on the CPU."""
        return self._replace(src=self.src.to(device), tgt_in=self.tgt_in.to(device), tgt_out=self.tgt_out.to(device))

    def cut(self, length: int) -> "Batch":
        """Return the batch with at most the first `length` pieces of each side."""
        return self._replace(
            src=self.src[:, :length],
            src_lengths=self.src_lengths.clamp(max=length),
            tgt_in=self.tgt_in[:, :length],
            tgt_out=self.tgt_out[:, :length],
            tgt_lengths=self.tgt_lengths.clamp(max=length),
        )

    def halves(self) -> "list[Batch]":
        """Return the first and the second half of the rows, or only the batch if it has one row."""
        return [Batch(*half) for half in zip(*(tensor.chunk(2) for tensor in self), strict=True)]


@dataclass(frozen=True)
class Sampling:
    """Subword regularisation: the lines of a split, segmented at random (`Tokenizer.sample_batch`)."""

    tokenizers: Tokenizers
    text: tuple[Lines, Lines]
    alpha: float

    def sides(self, indices: NDArray[np.int64], seed: list[int]) -> list[list[list[int]]]:
        """Return the ids of the sentences of these indices, source and target."""
        seeds = np.random.SeedSequence(seed).generate_state(2) >> 1  # 31 bits
        return [
            tokenizer.sample_batch([lines[i] for i in indices.tolist()], self.alpha, int(seed))
            for tokenizer, lines, seed in zip(self.tokenizers, self.text, seeds, strict=True)
        ]


class Batches:
    """The batches of a split: `for batch in batches` iterates over epoch after epoch, without end.

    Each sentence is in one batch of an epoch. A batch has rows × longest sentence of either side ≤
    `max_tokens`, including EOS. A sentence that is longer is a batch alone. A thread prepares batches in
    advance.

    `epoch` and `cursor` are the position: `cursor` batches of this epoch have been yielded. They are
    updated before a batch is yielded, so a state saved after training on a batch continues with the next
    batch.

    Args:
        pairs: the encoded split.
        max_tokens: the token budget of a batch.
        seed: determines the order, together with the epoch.
        shuffle: False gives all epochs the same order, shortest first.
        sampling: splits each sentence into other pieces in each epoch, drawn from seed, epoch and position.
            Each batch keeps its sentences. With more pieces than are stored it can exceed `max_tokens`.
    """

    def __init__(
        self,
        pairs: EncodedPairs,
        max_tokens: int,
        seed: int,
        shuffle: bool = True,
        sampling: Sampling | None = None,
    ):
        if max_tokens < 1:
            raise UserError(f"the token budget of a batch is {max_tokens}; it must be 1 or more")
        if len(pairs) == 0:
            raise UserError("there are no sentence pairs to make batches of")
        self.pairs, self.seed, self.shuffle, self.sampling = pairs, seed, shuffle, sampling
        self.epoch = self.cursor = 0
        self._bounds = self._cut(max_tokens)

    def __len__(self) -> int:
        """Return the number of batches in an epoch, which is the same for all epochs."""
        return len(self._bounds) - 1

    def __iter__(self) -> Iterator[Batch]:
        for epoch, cursor, batch in _ahead(self._made()):
            self.epoch, self.cursor = epoch, cursor
            yield batch

    def _made(self) -> Iterator[Callable[[], tuple[int, int, Batch]]]:
        """Yield a task for each batch from the current position on. See `_make`."""
        first = self.cursor
        for epoch in count(self.epoch):
            plan = self.plan(epoch)
            for place in range(first, len(plan)):
                yield partial(self._make, epoch, place, plan[place])
            first = 0

    def _make(self, epoch: int, place: int, indices: NDArray[np.int64]) -> tuple[int, int, Batch]:
        """Return the epoch and the cursor after a batch, and the batch."""
        sampled = self.sampling.sides(indices, [self.seed, epoch, place]) if self.sampling else None
        return epoch, place + 1, self.collate(indices, sampled)

    def once(self) -> Iterator[Batch]:
        """Return all batches of the current epoch, without sampling. The position does not change."""
        return map(self.collate, self.plan(self.epoch))

    def plan(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the indices of each batch of an epoch, in order."""
        random = np.random.default_rng([self.seed, epoch])
        size = len(self.pairs)
        batches = np.split(
            self._by_length(random.permutation(size) if self.shuffle else np.arange(size)), self._bounds[1:-1]
        )
        return [batches[i] for i in random.permutation(len(batches))] if self.shuffle else batches

    def collate(self, indices: NDArray[np.int64], sampled: list[list[list[int]]] | None = None) -> Batch:
        """Return the sentences of these indices as a batch.

        `sampled` are their ids, source and target, if these differ from the stored ids.
        """
        (src, src_lengths), (tgt, tgt_lengths) = (
            [padded(side, PAD) for side in sampled]
            if sampled
            else [store.rows(indices, PAD) for store in (self.pairs.src, self.pairs.tgt)]
        )
        tgt_in = np.pad(tgt, ((0, 0), (1, 0)), constant_values=BOS)
        src, tgt_out = _ended(src, src_lengths), _ended(tgt, tgt_lengths)
        arrays = (src, src_lengths + 1, tgt_in, tgt_out, tgt_lengths + 1, indices)
        return Batch(*map(torch.from_numpy, arrays))

    def state_dict(self) -> dict[str, int]:
        """Return the position."""
        return {"epoch": self.epoch, "cursor": self.cursor}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Set the position, from which the next `iter` continues. Raises `UserError` if it does not exist."""
        if not 0 <= state["cursor"] <= len(self):
            raise UserError(
                f"cannot continue at batch {state['cursor']} of an epoch of {len(self)}: the data are different"
            )
        self.epoch, self.cursor = state["epoch"], state["cursor"]

    def _by_length(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the indices sorted by target length, then source length. Ties keep their order.

        Source lengths increase within one target length and decrease within the next. They are therefore
        similar in a batch that has both target lengths, which saves a third of the padding of Multi30k.
        """
        src, tgt = self.pairs.src.lengths[order], self.pairs.tgt.lengths[order]
        return order[np.lexsort((np.where(tgt % 2, src, -src), tgt))]

    def _cut(self, max_tokens: int) -> list[int]:
        """Return the bounds of the batches in the sorted order, whose lengths are the same in every epoch."""
        order = self._by_length(np.arange(len(self.pairs)))
        longest = 1 + np.maximum(self.pairs.src.lengths, self.pairs.tgt.lengths)[order]
        bounds = [0]
        while bounds[-1] < len(order):
            first = bounds[-1]
            window = longest[first : first + max(1, max_tokens // longest[first])]  # no batch has more rows
            tokens = np.maximum.accumulate(window) * np.arange(1, len(window) + 1)
            bounds.append(first + max(1, int((tokens <= max_tokens).sum())))
        return bounds


def _ahead(tasks: Iterator[Callable[[], T]]) -> Iterator[T]:
    """Yield the results of an endless stream of tasks, in order. A thread computes them in advance."""
    thread = ThreadPoolExecutor(1)
    try:
        waiting = deque(thread.submit(task) for task in islice(tasks, AHEAD))
        for task in tasks:
            waiting.append(thread.submit(task))
            yield waiting.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)


def _ended(rows: Int64[np.ndarray, "B max"], lengths: Int64[np.ndarray, " B"]) -> Int64[np.ndarray, "B max+1"]:
    """Return the rows with EOS after each sentence."""
    ended = np.pad(rows, ((0, 0), (0, 1)), constant_values=PAD)
    ended[np.arange(len(ended)), lengths] = EOS
    return ended
