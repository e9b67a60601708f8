"""Entropy and diagnostics of alignments, and files of alignments."""

import math
import statistics
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heed.alignment.diagnostics import diagnostics, normalized_entropy
from heed.alignment.store import load_alignments, save_alignments


def test_entropy_is_the_plain_loop_over_real_positions():
    torch.manual_seed(0)
    src_lengths, tgt_lengths = [7, 1, 5], [2, 11, 3]
    energy = 3 * torch.randn(3, 11, 7, dtype=torch.float64)
    src_mask = torch.arange(7) < torch.tensor(src_lengths)[:, None]
    tgt_mask = torch.arange(11) < torch.tensor(tgt_lengths)[:, None]
    alignment = energy.masked_fill(~src_mask[:, None], -torch.inf).softmax(-1)
    found = []
    for b, (num_src, num_tgt) in enumerate(zip(src_lengths, tgt_lengths, strict=True)):
        for t in range(num_tgt):
            weights = alignment[b, t, :num_src].tolist()
            entropy = -sum(weight * math.log(weight) for weight in weights if weight > 0)
            found.append(entropy / math.log(num_src) if num_src > 1 else 0.0)
    total, number = normalized_entropy(alignment, src_mask, tgt_mask)
    assert float(total) == pytest.approx(sum(found), abs=1e-12) and number == len(found)
    total, number = normalized_entropy(alignment[0, :2, :7])
    assert float(total) == pytest.approx(sum(found[:2]), abs=1e-12) and number == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_entropy_at_its_ends(dtype):
    assert normalized_entropy(torch.eye(5, dtype=dtype)[:3]) == (0, 3)
    assert normalized_entropy(torch.full((3, 8), 1 / 8, dtype=dtype)) == (pytest.approx(3), 3)
    assert normalized_entropy(torch.ones(3, 1, dtype=dtype)) == (0, 3)
    assert normalized_entropy(torch.zeros(0, 0, dtype=dtype)) == (0, 0)


def test_entropy_leaves_out_positions_that_look_nowhere():
    alignment = torch.tensor([[0.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0]])
    assert normalized_entropy(alignment) == (pytest.approx(3 / 2), 2)
    assert normalized_entropy(torch.zeros(3, 5)) == (0, 0)


def test_diagnostics_are_the_plain_loop_over_real_positions():
    random = torch.Generator().manual_seed(1)
    lengths, tgt_lengths = [5, 2, 1], [4, 7, 1]
    src_mask, tgt_mask = (torch.arange(n) < torch.tensor(x)[:, None] for n, x in ((5, lengths), (7, tgt_lengths)))
    energies = torch.randn(3, 7, 5, dtype=torch.float64, generator=random)
    alignment = energies.masked_fill(~src_mask[:, None], -torch.inf).softmax(-1)
    expected: dict[str, list[float]] = {
        name: [] for name in ("max_weight", "eos_mass", "monotonicity", "coverage", "energy_spread")
    }
    for b, (S, T) in enumerate(zip(lengths, tgt_lengths, strict=True)):
        rows = [alignment[b, t, :S].tolist() for t in range(T)]
        expected["max_weight"] += [max(row) for row in rows]
        expected["eos_mass"] += [row[-1] for row in rows[:-1]]
        best = [row.index(max(row)) for row in rows]
        expected["monotonicity"] += [float(after >= before) for before, after in pairwise(best)]
        expected["coverage"] += [min(1, sum(row[s] for row in rows)) for s in range(S)]
        if S > 1:
            expected["energy_spread"] += [statistics.pstdev(energies[b, t, :S].tolist()) for t in range(T)]
    found = diagnostics(alignment, src_mask, tgt_mask)
    assert {name: int(number) for name, (_, number) in found.items()} == {n: len(x) for n, x in expected.items()}
    for name, (total, _) in found.items():
        assert float(total) == pytest.approx(sum(expected[name]), rel=1e-12), name


def test_diagnostics_of_no_attention_are_numbers():
    masks = torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool)
    found = diagnostics(torch.zeros(2, 5, 3), *masks)
    assert found.keys() == {"max_weight", "eos_mass", "monotonicity", "coverage", "energy_spread"}
    assert all(total == 0 for total, _ in found.values()) and found["monotonicity"][1] == 0


def test_the_spread_of_energies_is_too_small_where_their_weights_are_below_float32():
    energies = torch.randn(1, 200, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    masks = torch.ones(1, 20, dtype=torch.bool), torch.ones(1, 200, dtype=torch.bool)
    true = float(energies.std(-1, correction=0).mean())
    for beta, least, most in ((5, 0.999, 1.001), (15, 0.99, 1), (40, 0.5, 0.8)):
        total, number = diagnostics((beta * energies).softmax(-1).float(), *masks)["energy_spread"]
        assert least < float(total / number) / (beta * true) < most


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=7))
@settings(max_examples=25)
def test_alignments_come_back_as_stored(tmp_path_factory, shapes):
    path = tmp_path_factory.mktemp("store") / "alignments.npz"
    stored = [np.random.default_rng(i).random(shape, np.float32) for i, shape in enumerate(shapes)]
    save_alignments(path, stored)
    loaded = load_alignments(path)
    assert [one.shape for one in loaded] == shapes
    for one, other in zip(stored, loaded, strict=True):
        np.testing.assert_array_equal(one, other)
