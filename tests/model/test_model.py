"""The model: step = unroll, torch's own cells and packed sequences as authorities, alone = padded."""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from helpers.models import SCORES, WIRINGS, make_model, padded
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.testing import assert_close

from heed.model import Bridge, Encoder, Memory, Seq2Seq, recurrent
from heed.model.dropout import Dropout
from heed.model.recurrent import Recurrent
from heed.ops import rnn, switch
from heed.ops.dropout import dropout

V_SRC, V_TGT = 17, 19
SRC_LENGTHS, TGT_LENGTHS = [5, 1, 3], [7, 2, 4]

every_score = pytest.mark.parametrize("score", SCORES)
every_wiring = pytest.mark.parametrize("wiring", WIRINGS)
every_cell = pytest.mark.parametrize("cell", ["gru", "lstm"])
tight = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(5)
    yield
    torch.set_default_dtype(torch.float32)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    src, src_lengths = padded(SRC_LENGTHS, V_SRC)
    return src, src_lengths, padded(TGT_LENGTHS, V_TGT)[0]


def embed(model: Seq2Seq, tgt: torch.Tensor) -> torch.Tensor:
    return model.tgt_embedding(tgt)


def by_steps(
    model: Seq2Seq, src: torch.Tensor, lengths: torch.Tensor, tgt: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    memory, state = model.encode(src, lengths)
    readouts, alignments = [], []
    for position in embed(model, tgt).split(1, 1):
        readout, state, alignment = model.decoder.step(position, state, memory)
        readouts.append(readout)
        alignments.append(alignment)
    return torch.cat(readouts, 1), torch.cat(alignments, 1)


def gradients(model: Seq2Seq, outputs: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return gradients of a random projection of readouts and alignments: every element counts differently."""
    torch.manual_seed(11)
    model.zero_grad()
    sum((x * torch.randn_like(x)).sum() for x in outputs).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# --- step = unroll ---


@every_score
@every_wiring
@every_cell
@pytest.mark.parametrize("layers", [1, 2])
def test_a_loop_of_steps_is_the_same_as_unroll(score, wiring, cell, layers):
    model = make_model(score, wiring, (V_SRC, V_TGT), cell=cell, decoder_layers=layers, encoder_layers=1)
    src, lengths, tgt = batch()
    expected = by_steps(model, src, lengths, tgt)
    unrolled = model(src, lengths, tgt)
    assert unrolled[0].shape == (3, 7, 5) and unrolled[1].shape == (3, 7, 5)
    for mine, theirs in zip(unrolled, expected, strict=True):
        assert_close(mine, theirs, **tight)
    mine, theirs = gradients(model, unrolled), gradients(model, expected)
    assert mine.keys() == theirs.keys() == {n for n, _ in model.named_parameters() if not n.startswith("output.")}
    for name in mine:
        assert_close(mine[name], theirs[name], msg=lambda m, name=name: f"{name}: {m}", **tight)
    assert all(grad.abs().sum() > 0 for grad in mine.values())


@every_score
@every_wiring
@every_cell
def test_several_hypotheses_of_a_sentence_step_as_each_would_alone(score, wiring, cell):
    model = make_model(score, wiring, (V_SRC, V_TGT), cell=cell, decoder_layers=2)
    src, lengths, _ = batch()
    tgt = torch.randint(4, V_TGT, (3, 4, 2))  # B T N
    memory, start = model.encode(src, lengths)
    alone = [by_steps(model, src, lengths, tgt[..., n]) for n in range(2)]
    state = tuple(x.expand(-1, 2, -1) for x in start)
    for t in range(4):
        readout, state, alignment = model.decoder.step(embed(model, tgt[:, t]), state, memory)
        for n, (readouts, alignments) in enumerate(alone):
            assert_close(readout[:, n], readouts[:, t], **tight)
            assert_close(alignment[:, n], alignments[:, t], **tight)


# --- recurrent nets ---


@every_cell
def test_a_step_is_torchs_cell(cell):
    sizes = {"input": 5, "hidden": 7}
    recurrent = Recurrent(cell, sizes["input"], 0, sizes["hidden"], 1, 0.0)
    torchs = (nn.GRUCell if cell == "gru" else nn.LSTMCell)(sizes["input"], sizes["hidden"])
    torchs.load_state_dict({k.removesuffix("_l0"): v for k, v in recurrent.rnn.state_dict().items()})
    inputs = torch.randn(2, 3, 5)  # B N I
    state = tuple(torch.randn(2, 3, 7) for _ in range(recurrent.num_tensors))
    new = recurrent.step(recurrent.inputs(inputs), state)
    flat = [x.flatten(0, 1) for x in state]
    expected = torchs(inputs.flatten(0, 1), flat[0] if cell == "gru" else tuple(flat))
    for mine, theirs in zip(new, (expected,) if cell == "gru" else expected, strict=True):
        assert_close(mine.flatten(0, 1), theirs, **tight)


@every_cell
def test_what_is_fed_is_the_rest_of_torchs_input(cell):
    """W y + C c is torch's product of [W, C] with [y; c]."""
    recurrent = Recurrent(cell, 5, 3, 7, 1, 0.0)
    torchs = (nn.GRUCell if cell == "gru" else nn.LSTMCell)(5 + 3, 7)
    weights = {k.removesuffix("_l0"): v for k, v in recurrent.rnn.state_dict().items()}
    torchs.load_state_dict(weights | {"weight_ih": torch.cat([weights["weight_ih"], recurrent.C.weight], 1)})
    y, c = torch.randn(2, 1, 5), torch.randn(2, 1, 3)
    state = tuple(torch.randn(2, 1, 7) for _ in range(recurrent.num_tensors))
    first, *rest = [x[:, 0] for x in state]
    expected = torchs(torch.cat([y, c], -1)[:, 0], (first, *rest) if rest else first)
    new = recurrent.step(recurrent.inputs(y), state, fed=c)
    for mine, theirs in zip(new, expected if rest else (expected,), strict=True):
        assert_close(mine[:, 0], theirs, **tight)


@every_cell
def test_the_first_weights_are_those_of_torchs_module_over_both_inputs(cell):
    torch.manual_seed(7)
    torchs = (nn.GRU if cell == "gru" else nn.LSTM)(5 + 3, 7, 2)
    torch.manual_seed(7)
    recurrent = Recurrent(cell, 5, 3, 7, 2, 0.0)
    after = torch.rand(())
    weights = dict(recurrent.rnn.named_parameters())
    weights["weight_ih_l0"] = torch.cat([weights["weight_ih_l0"], recurrent.C.weight], 1)
    for name, weight in torchs.named_parameters():
        assert torch.equal(weight, weights[name])
    torch.manual_seed(7)
    (nn.GRU if cell == "gru" else nn.LSTM)(5 + 3, 7, 2)
    assert torch.rand(()) == after, "no further random numbers are drawn"


@every_cell
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_steps_are_torchs_whole_sequence(cell, layers):
    recurrent = Recurrent(cell, 5, 0, 7, layers, 0.0)
    inputs = torch.randn(2, 11, 5)
    size = recurrent.num_tensors // layers
    first = torch.randn(size, layers, 2, 7)  # h, or h and c, from the bottom layer up
    expected, last = recurrent.rnn(inputs.transpose(0, 1), first[0] if cell == "gru" else tuple(first))
    expected = expected.transpose(0, 1)
    # heed's order: the top layer first, h before c
    state = tuple(first[part, layer][:, None] for layer in reversed(range(layers)) for part in range(size))
    assert_close(recurrent.unroll(inputs, state), expected, **tight)
    outputs = []
    for position in inputs.split(1, 1):
        state = recurrent.step(recurrent.inputs(position), state)
        outputs.append(state[0])
    assert_close(torch.cat(outputs, 1), expected, **tight)
    last = (last,) if cell == "gru" else last
    expected_state = [last[part][layer][:, None] for layer in reversed(range(layers)) for part in range(size)]
    for mine, theirs in zip(state, expected_state, strict=True):
        assert_close(mine, theirs, **tight)


@every_cell
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_encoder_is_torchs_over_packed_sequences(cell, layers, bidirectional):
    encoder = Encoder(cell, 5, 7, layers, bidirectional, Dropout(0.0))
    torchs = (nn.GRU if cell == "gru" else nn.LSTM)(5, 7, layers, batch_first=True, bidirectional=bidirectional)
    weights = {}
    for suffix, nets in (("", encoder.forwards), ("_reverse", encoder.backwards)):
        for layer, net in enumerate(nets):
            weights |= {k.replace("_l0", f"_l{layer}{suffix}"): v for k, v in net.state_dict().items()}
    torchs.load_state_dict(weights)
    lengths = torch.tensor([3, 11, 1, 4])
    embedded, mask = torch.randn(4, 11, 5), torch.arange(11) < lengths[:, None]
    packed, last = torchs(pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False))
    expected, _ = pad_packed_sequence(packed, batch_first=True)
    hidden = last if cell == "gru" else last[0]
    states, final = encoder(embedded, mask)
    assert states.shape == (4, 11, encoder.state_dim)
    assert_close(states[mask], expected[mask], **tight)
    assert_close(final, torch.cat(list(hidden[-2 if bidirectional else -1 :]), -1), **tight)


def test_the_encoders_states_past_the_recurrence():
    """The skip adds W e to each state of the encoder. The final state stays the same."""
    encoder = Encoder("gru", 5, 7, 2, True, Dropout(0.0), embedding_skip=True)
    embedded, mask = torch.randn(3, 11, 5), torch.arange(11) < torch.tensor([3, 11, 1])[:, None]
    states, final = encoder(embedded, mask)
    W, encoder.skip = encoder.skip.weight, None
    assert W.shape == (14, 5)
    plain, plain_final = encoder(embedded, mask)
    assert_close(states, plain + torch.einsum("ke,bse->bsk", W, embedded), **tight)
    assert torch.equal(final, plain_final)


def test_the_skip_is_chosen_by_its_key_and_changes_no_other_initial_weight():
    plain, skipping = (make_model("dot", "luong", embedding_skip=skip).state_dict() for skip in (False, True))
    assert skipping.keys() - plain.keys() == {"encoder.skip.weight"}
    assert all(torch.equal(skipping[name], weight) for name, weight in plain.items())


def test_the_bridge_is_the_tanh_of_a_linear_map():
    bridge, final = Bridge(5, [2, 3]), torch.randn(7, 5)
    first, second = bridge(final)
    assert first.shape == (7, 1, 2) and second.shape == (7, 1, 3)
    expected = (final @ bridge.W_s.weight.T + bridge.W_s.bias).tanh()
    assert_close(torch.cat([first, second], -1)[:, 0], expected)


# --- the published wirings, written out for one position ---


@every_cell
def test_bahdanaus_position(cell):
    model = make_model("general", "bahdanau", (V_SRC, V_TGT), cell=cell)
    src, lengths, tgt = batch()
    memory, state = model.encode(src, lengths)
    decoder, y = model.decoder, embed(model, tgt[:, :1])
    readout, new, alignment = decoder.step(y, state, memory)
    c, expected_alignment = decoder.attention(state[0], memory)  # the query is s_{j-1}
    assert_close(alignment, expected_alignment)
    assert_close(new[0], decoder.recurrent.step(decoder.recurrent.inputs(y), state, fed=c)[0])
    U_o, V_o, C_o = decoder.deep_output.weight.split([11, 5, 14], 1)
    deep = new[0] @ U_o.T + y @ V_o.T + c @ C_o.T + decoder.deep_output.bias
    assert_close(readout, torch.maximum(deep[..., 0::2], deep[..., 1::2]))


@every_cell
def test_luongs_position(cell):
    model = make_model("general", "luong", (V_SRC, V_TGT), cell=cell)
    src, lengths, tgt = batch()
    memory, state = model.encode(src, lengths)
    decoder, y = model.decoder, embed(model, tgt[:, :1])
    assert (state[-1] == 0).all() and state[-1].shape == (3, 1, 5)
    *recurrent, _ = state
    fed = torch.randn(3, 1, 5)
    readout, new, alignment = decoder.step(y, (*recurrent, fed), memory)
    s = decoder.recurrent.step(decoder.recurrent.inputs(y), tuple(recurrent), fed=fed)[0]
    c, expected_alignment = decoder.attention(s, memory)  # the query is s_j
    assert_close(alignment, expected_alignment)
    assert_close(readout, (torch.cat([c, s], -1) @ decoder.W_c.weight.T).tanh())
    assert_close(new[-1], readout)


@every_wiring
def test_where_a_context_is_fed_back_the_next_query_sees_it(wiring):
    model = make_model("general", wiring, (V_SRC, V_TGT))
    src, lengths, tgt = batch()
    memory, state = model.encode(src, lengths)
    other = Memory(memory.keys, memory.values + 1, memory.mask)  # the same energies, another answer
    readouts, alignments = model.decoder.unroll(embed(model, tgt), state, memory)
    other_readouts, other_alignments = model.decoder.unroll(embed(model, tgt), state, other)
    assert (readouts[:, 0] != other_readouts[:, 0]).all()
    assert torch.equal(alignments[:, 0], other_alignments[:, 0])
    # row 1 is a sentence of one token, whose alignment is 1 whatever is asked
    moved = (alignments - other_alignments)[[0, 2], 1:].abs().amax(-1)
    assert (moved > 0).all() if wiring != "luong-unfed" else (moved == 0).all()


# --- the whole model ---


@every_score
@every_wiring
@every_cell
def test_a_sentence_alone_is_the_same_as_in_a_padded_batch(score, wiring, cell):
    model = make_model(score, wiring, (V_SRC, V_TGT), cell=cell, encoder_layers=2)
    src, lengths, tgt = batch()
    memory, state = model.encode(src, lengths)
    readouts, alignments = model(src, lengths, tgt)
    for b, (source, target) in enumerate(zip(SRC_LENGTHS, TGT_LENGTHS, strict=True)):
        alone = src[b : b + 1, :source], lengths[b : b + 1]
        memory_alone, state_alone = model.encode(*alone)
        assert_close(memory_alone.values, memory.values[b : b + 1, :source], **tight)
        for mine, theirs in zip(state_alone, state, strict=True):
            assert_close(mine, theirs[b : b + 1], **tight)
        readouts_alone, alignments_alone = model(*alone, tgt[b : b + 1, :target])
        assert_close(readouts_alone, readouts[b : b + 1, :target], **tight)
        assert_close(alignments_alone, alignments[b : b + 1, :target, :source], **tight)
        assert (alignments[b, :, source:] == 0).all()


@every_wiring
def test_what_stands_on_padding_does_not_matter(wiring):
    model = make_model("bahdanau", wiring, (V_SRC, V_TGT), encoder_layers=2)
    src, lengths, tgt = batch()
    other = torch.where(torch.arange(5) < lengths[:, None], src, 16)
    assert not torch.equal(other, src)
    for mine, theirs in zip(model(other, lengths, tgt), model(src, lengths, tgt), strict=True):
        assert torch.equal(mine, theirs)


@every_wiring
def test_no_position_sees_the_target_ahead(wiring):
    model = make_model("bahdanau", wiring, (V_SRC, V_TGT))
    src, lengths, tgt = batch()
    other = tgt.clone()
    other[:, 4:] = 18
    assert_close(model(src, lengths, other)[0][:, :4], model(src, lengths, tgt)[0][:, :4], **tight)


@every_wiring
def test_logits_of_a_step_are_the_output_layer_of_its_readout(wiring):
    model = make_model("bahdanau", wiring, (V_SRC, V_TGT))
    src, lengths, tgt = batch()
    memory, state = model.encode(src, lengths)
    logits, _, alignment = model.step(tgt[:, :1], state, memory)
    readouts, alignments = model(src, lengths, tgt)
    assert_close(logits[:, 0], model.output(readouts[:, 0]), **tight)
    assert_close(alignment[:, 0], alignments[:, 0], **tight)


@every_wiring
@every_cell
def test_dropout_in_training_only(wiring, cell):
    model = make_model("bahdanau", wiring, (V_SRC, V_TGT), cell=cell, dropout=0.5, decoder_layers=2)
    src, lengths, tgt = batch()
    without = make_model("bahdanau", wiring, (V_SRC, V_TGT), cell=cell, dropout=0.0, decoder_layers=2)
    expected = without(src, lengths, tgt)[0]
    assert torch.equal(model.eval()(src, lengths, tgt)[0], expected)
    assert_close(by_steps(model, src, lengths, tgt)[0], expected, **tight)
    model.train()
    one, two = model(src, lengths, tgt)[0], model(src, lengths, tgt)[0]
    assert not torch.equal(one, two)
    for readouts in (one, two, by_steps(model, src, lengths, tgt)[0]):
        share = (readouts == 0).double().mean()
        assert 0.2 < share < 0.8


@every_wiring
@pytest.mark.parametrize("quickly", [True, False])
def test_locked_dropout_draws_once_for_all_positions_of_a_sentence(wiring, quickly):
    for locked in (True, False):
        model = make_model(
            "bahdanau", wiring, (V_SRC, V_TGT), dropout=0.5, locked_dropout=locked, encoder_layers=2
        ).train()
        src, lengths, tgt = torch.full((3, 5), 7), torch.tensor([5, 5, 5]), torch.full((3, 7), 9)
        with nullcontext() if quickly else switch.reference():
            memory, _ = model.encode(src, lengths)
            readouts, _ = model(src, lengths, tgt)
        for x in (model._embed(model.tgt_embedding, tgt), memory.values, readouts):
            dropped = x == 0
            assert 0.1 < dropped.double().mean() < 0.9
            assert not torch.equal(dropped[0], dropped[1])  # each sentence draws for itself
            assert (dropped == dropped[:, :1]).all() == locked
        state = torch.get_rng_state()
        assert torch.equal(model.eval()(src, lengths, tgt)[0], model(src, lengths, tgt)[0])
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("quickly", [True, False])
def test_dropout_between_the_decoders_layers_is_never_locked(wiring, quickly, monkeypatch):
    drawn = []

    def spy(*args):
        drawn.append(dropout(*args))
        return drawn[-1]

    model = make_model("bahdanau", wiring, (V_SRC, V_TGT), dropout=0.5, locked_dropout=True, decoder_layers=2).train()
    monkeypatch.setattr(recurrent if wiring != "luong-unfed" else rnn, "dropout", spy)
    with nullcontext() if quickly else switch.reference():
        model(torch.full((3, 5), 7), torch.tensor([5, 5, 5]), torch.full((3, 7), 9))
    (factors,) = drawn  # D or layers, then sentences and positions, in either order
    dropped = factors[0] == 0
    assert sorted(dropped.shape[:2]) == [3, 7] and 0.2 < dropped.double().mean() < 0.8
    assert not torch.equal(dropped[0], dropped[1]) and not torch.equal(dropped[:, 0], dropped[:, 1])


@every_wiring
def test_word_dropout_drops_whole_embeddings_in_training_only(wiring):
    model = make_model("bahdanau", wiring, (V_SRC, V_TGT), word_dropout=0.3).train()
    ids = torch.arange(V_SRC).expand(211, -1)
    found = model._embed(model.src_embedding, ids)
    kept = (found != 0).all(-1)
    assert torch.equal(kept, (found != 0).any(-1))
    assert abs(int((~kept).sum()) - 0.3 * ids.numel()) < 5 * (ids.numel() * 0.3 * 0.7) ** 0.5
    assert_close(found[kept], model.src_embedding(ids)[kept] / 0.7, rtol=1e-4, atol=0)
    assert torch.equal(model.eval()._embed(model.src_embedding, ids), model.src_embedding(ids))
    src, lengths, tgt = batch()
    model.train()
    (one, state), (two, _) = model.encode(src, lengths), model.encode(src, lengths)
    assert not torch.equal(one.values, two.values)  # the source's words
    model.encode = lambda *_: (one, state)
    assert not torch.equal(model(src, lengths, tgt)[0], model(src, lengths, tgt)[0])  # the target's


@every_wiring
@pytest.mark.parametrize("tie", ["none", "two", "three"])
def test_ties(wiring, tie):
    model = make_model("bahdanau", wiring, (V_TGT, V_TGT), tie=tie)
    names = [name for name, _ in model.named_parameters()]
    assert (model.output.weight is model.tgt_embedding.weight) == (tie != "none")
    assert (model.src_embedding.weight is model.tgt_embedding.weight) == (tie == "three")
    shared = {"none": 3, "two": 2, "three": 1}[tie]
    assert sum(name.endswith("embedding.weight") or name == "output.weight" for name in names) == shared


def test_dropout_is_between_the_encoders_layers_and_on_its_states():
    """Dropout is given the axis of the positions, along which locked dropout is the same."""
    seen = []

    class Seen(Dropout):
        def forward(self, x, positions=1):
            seen.append((tuple(x.shape), positions))
            return super().forward(x, positions)

    Encoder("gru", 5, 7, 3, True, Seen(0.5))(torch.randn(4, 11, 5), torch.ones(4, 11, dtype=torch.bool))
    assert seen == [((11, 4, 14), 0)] * 2 + [((4, 11, 14), 1)]
