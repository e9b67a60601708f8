"""The formula against torch's counter. In float64: in float32 a CPU's LSTM is one op that the counter cannot see."""

import pytest
import torch
from helpers.models import SCORES, WIRINGS, make_model
from test_textbook import V, make_batch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.flops import score_products, training_flops
from benchmarks.textbook import textbook
from heed.model import Seq2Seq
from heed.ops.cross_entropy import cross_entropy
from heed.score import Bahdanau, Content, Dot, General, ScaledDot, Score

B, S, T = 3, 13, 11


class Additive(Bahdanau):
    """Bahdanau's score, its last product written as one that the counter knows, forward and backward."""

    def forward(self, query, keys):
        hidden = torch.tanh(self.W_a(query)[:, :, None] + keys[:, None])
        return (hidden.flatten(0, 2) @ self.v_a[:, None]).view(hidden.shape[:3])


class Own(Score):
    """A user's, with a product for keys, one for queries, one with a vector for pairs."""

    def __init__(self, query_dim, key_dim):
        super().__init__(query_dim, key_dim)
        self.W, self.U = torch.nn.Linear(query_dim, 17), torch.nn.Linear(key_dim, 17)
        self.v = torch.nn.Parameter(torch.ones(17))

    def prepare(self, states):
        return self.U(states)

    def forward(self, query, keys):
        return torch.relu(self.W(query)[:, :, None] + keys[:, None]) @ self.v


def zero_products(model: Seq2Seq) -> int:
    """The gradients of the encoder's zero states, which the formula counts and autograd does not make."""
    nets = [*model.encoder.forwards, *model.encoder.backwards]
    return 2 * B * sum(net.weight_hh_l0.numel() for net in nets)


@pytest.mark.parametrize(
    ("wiring", "cell"),
    [("bahdanau", "gru"), ("luong", "lstm"), ("luong-unfed", "gru"), ("luong-unfed", "lstm")],
)
@pytest.mark.parametrize("score", SCORES)
def test_is_what_torch_counts(score, wiring, cell):
    """Exactly: in heed's forward pass, and in a training step of the textbook, which prepares the keys T times."""
    model = make_model(score, wiring, (V, V), cell=cell, encoder_layers=2, decoder_layers=2).double()
    batch = make_batch([S] * B, [T] * B)
    expected, score = training_flops(model, batch), model.decoder.attention.score
    needless = 3 * 2 * (T - 1) * B * S * score_products(score)[0]
    if type(score) is Bahdanau:
        score.__class__ = Additive
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        readouts, _ = model(batch.src, batch.src_lengths, batch.tgt_in)
        cross_entropy(readouts.flatten(0, 1), batch.tgt_out.flatten(), model.output, 0.1)
    assert 3 * forward.get_total_flops() == expected

    book = textbook(model)
    with FlopCounterMode(display=False) as step:
        book.loss(batch, 0.1).backward()
    assert step.get_total_flops() == expected + needless - zero_products(model)


@pytest.mark.parametrize("wiring", WIRINGS)
def test_a_step_of_heeds_own(wiring):
    """The two agree within 1 %: autograd need not make the gradients of the first states, which are zero."""
    model, batch = make_model("general", wiring, (V, V)).double(), make_batch([S] * B, [T] * B)
    with FlopCounterMode(display=False) as counter:
        readouts, _ = model(batch.src, batch.src_lengths, batch.tgt_in)
        loss, _ = cross_entropy(readouts.flatten(0, 1), batch.tgt_out.flatten(), model.output, 0.1)
        loss.backward()
    assert counter.get_total_flops() == pytest.approx(training_flops(model, batch), rel=0.01)


def test_padding_is_free():
    model, lengths = make_model("bahdanau", "bahdanau", (V, V)), [(3, 5), (11, 2), (7, 13)]
    alone = [training_flops(model, make_batch([src], [tgt])) for src, tgt in lengths]
    assert training_flops(model, make_batch(*map(list, zip(*lengths, strict=True)))) == sum(alone)


@pytest.mark.parametrize("score", [Additive, Content, Dot, General, ScaledDot])
def test_another_score_is_counted_as_it_runs(score):
    sizes = (11, 7) if score in (Additive, General) else (7, 7)
    shipped = Bahdanau if score is Additive else score
    assert score_products(type("Other", (score,), {})(*sizes)) == score_products(shipped(*sizes))
    assert score_products(Own(11, 7)) == (7 * 17, 11 * 17, 17)
