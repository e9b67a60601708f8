"""Batches by a token budget, of sentences of about one length, in an order made by seed and epoch alone."""

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
AHEAD = 4  # batches made before they are asked for


class Batch(NamedTuple):
    """Sentence pairs as tensors, padded on the right with PAD."""

    src: Int64[Tensor, "B S"]  # each row ends in EOS
    src_lengths: Int64[Tensor, " B"]  # EOS counted, so 1 or more
    tgt_in: Int64[Tensor, "B T"]  # what the decoder reads: begins with BOS
    tgt_out: Int64[Tensor, "B T"]  # what it is to say: `tgt_in` one step later, ends in EOS
    tgt_lengths: Int64[Tensor, " B"]
    indices: Int64[Tensor, " B"]  # the sentences' places in the split

    def to(self, device: torch.device | str) -> "Batch":
        """Moves the ids; lengths and indices stay on the CPU, where book-keeping wants them."""
        return self._replace(
            src=self.src.to(device), tgt_in=self.tgt_in.to(device), tgt_out=self.tgt_out.to(device)
        )

    def cut(self, length: int) -> "Batch":
        """No more than the first `length` pieces of each side."""
        return self._replace(
            src=self.src[:, :length],
            src_lengths=self.src_lengths.clamp(max=length),
            tgt_in=self.tgt_in[:, :length],
            tgt_out=self.tgt_out[:, :length],
            tgt_lengths=self.tgt_lengths.clamp(max=length),
        )

    def halves(self) -> "list[Batch]":
        """The first half of its rows and the second; only itself where it has one row."""
        return [Batch(*half) for half in zip(*(tensor.chunk(2) for tensor in self), strict=True)]


@dataclass(frozen=True)
class Sampling:
    """Subword regularisation: the text of a split, cut into other pieces each time (`Tokenizer.sample_batch`)."""

    tokenizers: Tokenizers
    text: tuple[Lines, Lines]
    alpha: float

    def sides(self, indices: NDArray[np.int64], seed: list[int]) -> list[list[list[int]]]:
        """Ids of the sentences of these indices, source and target."""
        seeds = np.random.SeedSequence(seed).generate_state(2) >> 1  # 31 bits
        return [
            tokenizer.sample_batch([lines[i] for i in indices.tolist()], self.alpha, int(seed))
            for tokenizer, lines, seed in zip(self.tokenizers, self.text, seeds, strict=True)
        ]


class Batches:
    """The batches of a split, epoch after epoch without end: `for batch in batches`.

    rows × longest sentence of either side ≤ `max_tokens`, EOS counted; a longer sentence is a batch
    by itself. Every sentence comes once an epoch. `epoch` and `cursor` (batches of this epoch given out) say
    where it stands; they are set before a batch is handed over, so a state saved after training on a batch
    goes on with the next one. With `shuffle=False` all epochs are the same: shortest first.

    With `sampling`, the same sentences make the same batches, each sentence in other pieces, drawn from seed, epoch and
    place: a batch becomes larger than `max_tokens` as the pieces become more. A thread works ahead.
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
        """Batches in an epoch, the same in each: neighbours change, their lengths do not."""
        return len(self._bounds) - 1

    def __iter__(self) -> Iterator[Batch]:
        for epoch, cursor, batch in _ahead(self._made()):
            self.epoch, self.cursor = epoch, cursor
            yield batch

    def _made(self) -> Iterator[Callable[[], tuple[int, int, Batch]]]:
        """What makes each batch from here on, with the place that is reached by it."""
        first = self.cursor
        for epoch in count(self.epoch):
            plan = self.plan(epoch)
            for place in range(first, len(plan)):
                yield partial(self._make, epoch, place, plan[place])
            first = 0

    def _make(self, epoch: int, place: int, indices: NDArray[np.int64]) -> tuple[int, int, Batch]:
        sampled = self.sampling.sides(indices, [self.seed, epoch, place]) if self.sampling else None
        return epoch, place + 1, self.collate(indices, sampled)

    def once(self) -> Iterator[Batch]:
        """All batches of the current epoch, from its beginning, unsampled; leaves the cursor alone. For validation."""
        return map(self.collate, self.plan(self.epoch))

    def plan(self, epoch: int) -> list[NDArray[np.int64]]:
        """The indices of each batch of an epoch, in order."""
        random = np.random.default_rng([self.seed, epoch])
        size = len(self.pairs)
        batches = np.split(
            self._by_length(random.permutation(size) if self.shuffle else np.arange(size)), self._bounds[1:-1]
        )
        return [batches[i] for i in random.permutation(len(batches))] if self.shuffle else batches

    def collate(self, indices: NDArray[np.int64], sampled: list[list[list[int]]] | None = None) -> Batch:
        """The sentences of these indices as tensors; `sampled`: their ids, source and target, if other than stored."""
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
        """Where the iteration stands."""
        return {"epoch": self.epoch, "cursor": self.cursor}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on from there, at the next `iter`. `UserError` for a place that these batches do not have."""
        if not 0 <= state["cursor"] <= len(self):
            raise UserError(
                f"the place to go on from is batch {state['cursor']} of an epoch of {len(self)}: other data"
            )
        self.epoch, self.cursor = state["epoch"], state["cursor"]

    def _by_length(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sorted by target length, then source length, ties in the order given.

        Source lengths rise within one target length and fall within the next, so that they are alike in a
        batch that holds both: it takes a third off the padding of Multi30k.
        """
        src, tgt = self.pairs.src.lengths[order], self.pairs.tgt.lengths[order]
        return order[np.lexsort((np.where(tgt % 2, src, -src), tgt))]

    def _cut(self, max_tokens: int) -> list[int]:
        """Bounds of the batches in the sorted order, whose lengths are the same in every epoch."""
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
    """What the tasks, which have no end, return, in order; a thread works ahead of it."""
    thread = ThreadPoolExecutor(1)
    try:
        waiting = deque(thread.submit(task) for task in islice(tasks, AHEAD))
        for task in tasks:
            waiting.append(thread.submit(task))
            yield waiting.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)


def _ended(
    rows: Int64[np.ndarray, "B max"], lengths: Int64[np.ndarray, " B"]
) -> Int64[np.ndarray, "B max+1"]:
    """The rows with EOS after each sentence."""
    ended = np.pad(rows, ((0, 0), (0, 1)), constant_values=PAD)
    ended[np.arange(len(ended)), lengths] = EOS
    return ended
