"""The yardstick of the benchmarks computes what heed computes: loss, gradients and hypotheses, in float64."""

import re

import numpy as np
import pytest
import torch
from helpers.models import SCORES, WIRINGS, make_model, padded

from benchmarks.textbook import beam_search, textbook
from heed.data.batches import Batch
from heed.model import Seq2Seq
from heed.ops.cross_entropy import cross_entropy
from heed.search import beam
from heed.search.settings import SearchSettings
from heed.text import BOS, EOS, PAD

V = 19


def make_batch(src_lengths: list[int], tgt_lengths: list[int]) -> Batch:
    src, src_lengths = padded(src_lengths, V)
    tgt, tgt_lengths = padded(tgt_lengths, V)
    rows = torch.arange(len(src))
    src[rows, src_lengths - 1] = tgt[rows, tgt_lengths - 1] = EOS
    tgt_in = torch.cat([torch.full((len(tgt), 1), BOS), tgt[:, :-1]], 1)
    return Batch(src, src_lengths, tgt_in, tgt, tgt_lengths, rows)


def opinionated(score: str, wiring: str, **settings) -> Seq2Seq:
    """A model in float64 whose weights are so large that attention and search have something to choose."""
    model = make_model(score, wiring, (V, V), **settings).double()
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.3 if "beta" in name else 0.7)
        model.output.bias[EOS] = 1  # sentences end before their limits
    return model


def heeds_name(name: str, wiring: str) -> str:
    """Return heed's name of a parameter of the textbook."""
    name = re.sub(r"^bridge", "bridge.W_s", name)
    name = re.sub(r"^score", "decoder.attention.score", name)
    name = re.sub(r"^readout", "decoder.deep_output" if wiring == "bahdanau" else "decoder.W_c", name)
    name = re.sub(r"^cells\.(\d)\.(\w+)", r"decoder.recurrent.rnn.\2_l\1", name)
    name = re.sub(r"^encoder\.(\w+)_l(\d)_reverse", r"encoder.backwards.\2.\1_l0", name)
    return re.sub(r"^encoder\.(\w+)_l(\d)$", r"encoder.forwards.\2.\1_l0", name)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("score", SCORES)
def test_loss_and_gradients(score, wiring, cell):
    num_layers = 2 if cell == "lstm" or score == "bahdanau" else 1
    tie = {"bahdanau": "three", "luong": "two", "luong-unfed": "none"}[wiring]
    model = opinionated(score, wiring, cell=cell, encoder_layers=num_layers, decoder_layers=num_layers, tie=tie)
    book, batch = textbook(model), make_batch([3, 11, 1, 7], [5, 2, 13, 3])
    real = batch.tgt_out != PAD
    readouts, _ = model(batch.src, batch.src_lengths, batch.tgt_in)
    expected, _ = cross_entropy(readouts[real], batch.tgt_out[real], model.output, 0.1)
    loss = book.loss(batch, 0.1)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)

    expected.backward()
    loss.backward()
    gradients = {heeds_name(name, wiring): parameter.grad for name, parameter in book.named_parameters()}
    expected_gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    fed = expected_gradients.pop("decoder.recurrent.C.weight", None)
    if fed is not None:  # the textbook's cell has both in one matrix
        W = "decoder.recurrent.rnn.weight_ih_l0"
        expected_gradients[W] = torch.cat([expected_gradients[W], fed], 1)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-9, atol=1e-9)


def test_one_direction():
    model = opinionated("general", "luong", bidirectional=False, cell="lstm")
    batch = make_batch([3, 7], [5, 2])
    readouts, _ = model(batch.src, batch.src_lengths, batch.tgt_in)
    real = batch.tgt_out != PAD
    expected, _ = cross_entropy(readouts[real], batch.tgt_out[real], model.output, 0.0)
    torch.testing.assert_close(textbook(model).loss(batch, 0.0), expected)


def test_dropout_is_everywhere_that_heed_has_it():
    """On both embeddings, between layers, on encoder states and readouts."""
    model = make_model("dot", "luong", (V, V), dropout=0.5, encoder_layers=2, decoder_layers=2)
    book, batch = textbook(model), make_batch([3, 7], [5, 2])
    assert book.encoder.dropout == book.dropout.p == 0.5
    calls = []
    book.dropout.register_forward_hook(lambda _, args, __: calls.append(args[0].shape[-1]))
    book.loss(batch, 0.0)
    assert calls == [5, 14] + 5 * [
        5,
        14,
        5,
    ]  # E, K; then E, H between layers, the readout's E at each of 5 steps
    book.eval()
    assert book.loss(batch, 0.0) == book.loss(batch, 0.0)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("score", SCORES)
def test_hypotheses(score, wiring, cell):
    model, batch = opinionated(score, wiring, cell=cell).eval(), make_batch([3, 11, 1, 7, 5, 2, 13], [1] * 7)
    for width in (1, 4):
        settings = SearchSettings(
            width, n_best=width, min_length=2, max_length_offset=3, length_normalization="gnmt", alpha=1.3
        )
        found = beam_search(textbook(model), batch.src, batch.src_lengths, settings)
        expected = beam.beam_search([model], batch.src, batch.src_lengths, settings)
        for ours, theirs in zip(found, expected, strict=True):
            assert [h.ids for h in ours] == [h.ids for h in theirs]
            for one, other in zip(ours, theirs, strict=True):
                assert one[1:3] == pytest.approx(other[1:3], rel=1e-9)
                np.testing.assert_allclose(one.alignment, other.alignment, atol=1e-6)
    assert len({len(h.ids) for hypotheses in found for h in hypotheses}) > 1
