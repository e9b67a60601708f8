"""GRU and LSTM over whole sequences, fast and reference versions, against torch's own modules."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from heed.ops import switch
from heed.ops.rnn import RNN, cell, unroll

T, B, INPUT, H = 7, 3, 17, 19


def modules(kind: str, directions: int, layers: int) -> list[nn.RNNBase]:
    torch.manual_seed(5)
    return [RNN[kind](INPUT, H, layers).double() for _ in range(directions)]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("kind", RNN)
def test_unroll_is_torchs_module(kind, directions, layers, fast, monkeypatch):
    monkeypatch.setattr(switch, "_enabled", fast)
    rnns = modules(kind, directions, layers)
    inputs = torch.randn(directions, T, B, INPUT).double().requires_grad_()
    shape = (directions, layers, B, H)
    state = tuple(torch.randn(shape).double().requires_grad_() for _ in range(1 + (kind == "lstm")))
    found = unroll(rnns, list(inputs), state)
    first = [parts if kind == "lstm" else parts[0] for parts in zip(*state, strict=True)]
    expected = torch.stack([rnn(x, h)[0] for rnn, x, h in zip(rnns, inputs, first, strict=True)])
    assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(expected)
    of = [inputs, *state, *(parameter for rnn in rnns for parameter in rnn.parameters())]
    for mine, torchs in zip(
        torch.autograd.grad(found, of, weights), torch.autograd.grad(expected, of, weights), strict=True
    ):
        assert_close(mine, torchs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("kind", RNN)
def test_the_first_state_is_zero_by_default(kind, fast, monkeypatch):
    monkeypatch.setattr(switch, "_enabled", fast)
    rnns, x = modules(kind, 1, 1), torch.randn(T, B, INPUT).double()
    assert_close(unroll(rnns, [x])[0], rnns[0](x)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", RNN)
def test_a_step_of_the_cell_is_torchs_cell(kind):
    torchs = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}[kind](INPUT, H).double()
    x, state = torch.randn(B, INPUT).double(), tuple(torch.randn(2, B, H).double()[: 1 + (kind == "lstm")])
    gates, hidden_gates = (
        nn.functional.linear(x, torchs.weight_ih, torchs.bias_ih),
        nn.functional.linear(state[0], torchs.weight_hh, torchs.bias_hh),
    )
    expected = torchs(x, state if kind == "lstm" else state[0])
    for mine, theirs in zip(cell(gates, hidden_gates, state), expected if kind == "lstm" else (expected,), strict=True):
        assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
