"""Batches: every sentence once, the budget held, an order that can be resumed."""

import contextlib
import threading
from collections.abc import Iterator
from itertools import combinations, islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from helpers.runs import shapes_checked
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from heed.data.batches import AHEAD, Batch, Batches, Sampling
from heed.data.store import EncodedPairs, Lines, StoreWriter, TokenStore
from heed.text import SentencePiece, Tokenizers
from heed.text.base import BOS, EOS, PAD

VOCAB = 97
LENGTHS = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 13)), min_size=1, max_size=53)
Sentences = list[list[int]]


@pytest.fixture(autouse=True, scope="module")
def shapes_unchecked() -> Iterator[None]:
    """Shapes are checked where a test says so: the checks take more time than the batches."""
    with shapes_checked(False):
        yield


def sentences(lengths: list[int], seed: int) -> Sentences:
    random = np.random.default_rng(seed)
    return [random.integers(4, VOCAB, length).tolist() for length in lengths]


@contextlib.contextmanager
def stored(lengths: list[tuple[int, int]]) -> Iterator[tuple[EncodedPairs, Sentences, Sentences]]:
    src, tgt = sentences([s for s, _ in lengths], 1), sentences([t for _, t in lengths], 2)
    with TemporaryDirectory() as directory:
        stores = []
        for name, side in (("src", src), ("tgt", tgt)):
            with StoreWriter(Path(directory) / name, VOCAB) as writer:
                writer.add(side)
            stores.append(TokenStore(Path(directory) / name, VOCAB))
        yield EncodedPairs(*stores), src, tgt


def padded(rows: Sentences) -> Sentences:
    width = max(map(len, rows))
    return [row + [PAD] * (width - len(row)) for row in rows]


def same(one: Batch, two: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@given(LENGTHS, st.integers(1, 101), st.integers(0, 7), st.booleans())
def test_batches_hold_each_sentence_once_within_the_budget(
    lengths: list[tuple[int, int]], max_tokens: int, seed: int, shuffle: bool
) -> None:
    with shapes_checked(True), stored(lengths) as (pairs, src, tgt):
        batches = Batches(pairs, max_tokens, seed, shuffle)
        epoch = list(batches.once())
    assert len(epoch) == len(batches)
    assert sorted(i for batch in epoch for i in batch.indices.tolist()) == list(range(len(lengths)))
    for batch in epoch:
        rows = batch.indices.tolist()
        assert batch.src.tolist() == padded([[*src[i], EOS] for i in rows])
        assert batch.tgt_in.tolist() == padded([[BOS, *tgt[i]] for i in rows])
        assert batch.tgt_out.tolist() == padded([[*tgt[i], EOS] for i in rows])
        assert batch.src_lengths.tolist() == [len(src[i]) + 1 for i in rows]
        assert batch.tgt_lengths.tolist() == [len(tgt[i]) + 1 for i in rows]
        assert all(tensor.dtype == torch.int64 for tensor in batch)
        longest = max(batch.src.shape[1], batch.tgt_in.shape[1])
        assert len(rows) == 1 or len(rows) * longest <= max_tokens


@given(LENGTHS, st.integers(1, 101))
def test_batches_are_as_large_as_the_budget_allows(lengths: list[tuple[int, int]], max_tokens: int) -> None:
    with stored(lengths) as (pairs, _, _):
        plan = Batches(pairs, max_tokens, seed=1, shuffle=False).plan(0)
    for batch, following in pairwise(plan):
        joined = [*batch.tolist(), int(following[0])]
        assert len(joined) * (1 + max(max(lengths[i]) for i in joined)) > max_tokens


@given(LENGTHS, st.integers(1, 101), st.integers(0, 7))
def test_order_is_a_function_of_seed_and_epoch(lengths: list[tuple[int, int]], max_tokens: int, seed: int) -> None:
    with stored(lengths) as (pairs, _, _):
        one, two = Batches(pairs, max_tokens, seed), Batches(pairs, max_tokens, seed)
        list(islice(one, 7))  # what was read before does not matter
        for epoch in (3, 0):
            plans = one.plan(epoch), two.plan(epoch)
            assert [batch.tolist() for batch in plans[0]] == [batch.tolist() for batch in plans[1]]
            assert len(plans[0]) == len(one)


def test_seeds_and_epochs_differ_and_validation_is_fixed() -> None:
    with stored([(i % 7, i % 5) for i in range(211)]) as (pairs, _, _):
        plans = [Batches(pairs, 41, seed).plan(epoch) for seed, epoch in ((1, 0), (1, 1), (2, 0))]
        orders = [np.concatenate(plan).tolist() for plan in plans]
        assert orders[0] != orders[1] != orders[2] != orders[0]
        groups = [{tuple(sorted(batch.tolist())) for batch in plan} for plan in plans]
        assert groups[0] != groups[1]  # not only the batches' order, also who is beside whom
        mixed = [batch.tgt_lengths.max().item() for batch in Batches(pairs, 41, 1).once()]
        assert mixed != sorted(mixed)
        fixed = Batches(pairs, 41, 1, shuffle=False)
        assert all(map(np.array_equal, fixed.plan(0), fixed.plan(1)))
        lengths = [batch.tgt_lengths.max().item() for batch in fixed.once()]
        assert lengths == sorted(lengths) and fixed.state_dict() == {"epoch": 0, "cursor": 0}


@given(LENGTHS, st.integers(1, 61), st.data())
def test_resumed_anywhere_the_rest_is_the_same(
    lengths: list[tuple[int, int]], max_tokens: int, data: st.DataObject
) -> None:
    with stored(lengths) as (pairs, _, _):
        whole = Batches(pairs, max_tokens, seed=3)
        stop = data.draw(st.integers(0, 2 * len(whole)))
        more = len(whole) + 1
        running = iter(whole)
        for _ in range(stop):
            next(running)
        state = whole.state_dict()
        assert state["epoch"] * len(whole) + state["cursor"] == stop
        resumed = Batches(pairs, max_tokens, seed=3)
        resumed.load_state_dict(state)
        rest, again = list(islice(running, more)), list(islice(resumed, more))
    assert len(rest) == len(again) == more and all(map(same, rest, again))


def test_sampled_batches_are_the_same_sentences_in_other_pieces_each_epoch(tmp_path: Path) -> None:
    lines = [f"{word}ing some {word}s {word}ed {word} {i}" for i, word in enumerate(["walk", "talk", "sing"] * 7)]
    tokenizer = SentencePiece(model_type="bpe", vocab_size=330).train(lines, tmp_path / "model")
    assert len(tokenizer) == 330
    (tmp_path / "text").write_text("".join(f"{line}\n" for line in lines), "utf-8", newline="\n")
    with StoreWriter(tmp_path / "store", 330) as writer:
        writer.add(tokenizer.encode_batch(lines))
    store, text = TokenStore(tmp_path / "store", 330), Lines(tmp_path / "text")
    pairs, sampling = (
        EncodedPairs(store, store),
        Sampling(Tokenizers(tokenizer, tokenizer), (text, text), 0.3),
    )
    whole = Batches(pairs, 200, seed=3, sampling=sampling)
    running = iter(whole)
    first, second = ([next(running) for _ in range(len(whole))] for _ in range(2))
    for batch in first:
        for side, lengths in ((batch.src, batch.src_lengths), (batch.tgt_out, batch.tgt_lengths)):
            for i, row, length in zip(batch.indices.tolist(), side.tolist(), lengths.tolist(), strict=True):
                assert tokenizer.decode(row[: length - 1]) == lines[i]
                assert row[length - 1 :] == [EOS] + [PAD] * (len(row) - length)
        assert torch.equal(batch.tgt_in[:, 1:], batch.tgt_out[:, :-1].masked_fill(batch.tgt_out[:, :-1] == EOS, PAD))

    def ids(batches: list[Batch]) -> dict[int, tuple[list[int], list[int]]]:
        found = {}
        for batch in batches:
            for i, src, tgt in zip(batch.indices.tolist(), batch.src.tolist(), batch.tgt_out.tolist(), strict=True):
                found[i] = ([x for x in src if x], [x for x in tgt if x])
        return found

    one, other = ids(first), ids(second)
    assert sum(one[i] != other[i] for i in one) > 15 and sum(src != tgt for src, tgt in one.values()) > 15
    assert [batch.indices.tolist() for batch in first] == [rows.tolist() for rows in whole.plan(0)]
    fresh, resumed = (Batches(pairs, 200, seed=3, sampling=sampling) for _ in range(2))
    resumed.load_state_dict({"epoch": 0, "cursor": len(whole) - 1})
    assert all(map(same, [first[-1], *second], islice(resumed, 1 + len(whole))))
    assert all(map(same, Batches(pairs, 200, seed=3).once(), fresh.once()))  # validation reads the best cut
    rows = whole.plan(0)[0]
    drawn = [
        Batches(pairs, 200, seed=seed, sampling=sampling)._make(epoch, place, rows)[2]
        for seed, epoch, place in ((3, 0, 0), (4, 0, 0), (3, 1, 0), (3, 0, 1))
    ]
    assert not any(same(*two) for two in combinations(drawn, 2)), "one sentence, other pieces"


def test_batches_are_made_ahead_of_training_in_a_thread() -> None:
    with stored([(3, 5), (2, 7)]) as (pairs, _, _):
        batches = Batches(pairs, 8, seed=1)
        collate, made, enough = batches.collate, [], threading.Event()

        def watched(indices: NDArray[np.int64], sampled: Any) -> Batch:
            made.append(threading.current_thread())
            if len(made) == 1 + AHEAD:
                enough.set()
            return collate(indices, sampled)

        batches.collate = watched  # type: ignore[method-assign]
        running = iter(batches)
        next(running)
        assert enough.wait(60), "while one is asked for, so many more are made"
        assert threading.main_thread() not in made
        running.close()  # type: ignore[attr-defined]


def test_an_error_of_a_batch_is_raised_when_the_batch_is_asked_for() -> None:
    with stored([(3, 5), (2, 7)]) as (pairs, _, _):
        batches = Batches(pairs, 8, seed=1)
        batches.collate = lambda indices, sampled: 1 // 0  # type: ignore[method-assign, assignment]
        with pytest.raises(ZeroDivisionError):
            next(iter(batches))


def test_padding_is_below_five_percent() -> None:
    # Lengths as of Multi30k's captions in 8,000 pieces: 15 ± 5, the two sides 3 apart.
    random = np.random.default_rng(7)
    tgt = np.clip(random.normal(15, 5, 9_000), 4, 50).astype(int)
    src = np.clip(tgt + random.normal(0, 3, 9_000), 3, 50).astype(int)
    with stored(list(zip(src.tolist(), tgt.tolist(), strict=True))) as (pairs, _, _):
        batches = Batches(pairs, 1400, seed=1)
        epoch = list(batches.once())
        unsorted = list(map(batches.collate, np.array_split(random.permutation(9_000), len(epoch))))
        batches._by_length = lambda order: order[np.lexsort((src[order], tgt[order]))]  # always rising
        batches._bounds = batches._cut(1400)
        plain = list(batches.once())

    def share(batches: list[Batch]) -> float:
        real = sum(int(batch.src_lengths.sum() + batch.tgt_lengths.sum()) for batch in batches)
        return 1 - real / sum(batch.src.numel() + batch.tgt_in.numel() for batch in batches)

    assert share(epoch) < 0.05 < 0.3 < share(unsorted)
    assert share(epoch) < 0.8 * share(plain)


def test_moving_a_batch_leaves_lengths_on_the_cpu() -> None:
    with stored([(3, 5), (2, 7)]) as (pairs, _, _):
        moved = next(iter(Batches(pairs, 100, 1))).to("meta")
    assert [tensor.device.type for tensor in moved] == ["meta", "cpu", "meta", "meta", "cpu", "cpu"]


def test_refusals() -> None:
    with stored([(1, 1)]) as (pairs, _, _), pytest.raises(ValueError, match="is 0; it must be 1 or more"):
        Batches(pairs, 0, seed=1)
    with stored([]) as (pairs, _, _), pytest.raises(ValueError, match="no sentence pairs"):
        Batches(pairs, 10, seed=1)
