"""GRU and LSTM: one step, and whole sequences.

torch's `nn.GRU` and `nn.LSTM` hold the parameters: W (weight_ih), U (weight_hh), b (bias_ih) and b' (bias_hh).
A further axis: `D` directions (1 or 2), which share nothing but their shape.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heed.ops.dropout import dropout
from heed.ops.gru import gru
from heed.ops.linear import linear
from heed.ops.switch import accelerated

RNN = {"gru": nn.GRU, "lstm": nn.LSTM}
State = tuple[Tensor, ...]
"""Of one layer: h (GRU), or h and c (LSTM)."""


def cell(gates: Float[Tensor, "*B G"], hidden_gates: Float[Tensor, "*B G"], state: State) -> State:
    """Return the next state from W x + b, U h + b' and the state before: a GRU's if it has one tensor, h."""
    if len(state) == 1:
        return (gru_cell(gates, hidden_gates, state[0]),)
    return lstm_cell(gates, hidden_gates, state[1])


def gru_cell(
    gates: Float[Tensor, "*B G"], hidden_gates: Float[Tensor, "*B G"], hidden: Float[Tensor, "*B H"]
) -> Float[Tensor, "*B H"]:
    """Return the next h of a GRU (Cho et al. 2014, arXiv 1406.1078, §2.3; as `torch.nn.GRU`, reset after U).

    r, z = σ(W x + b + U h + b'), n = tanh(W x + b + r (U h + b')), h' = z h + (1 - z) n.
    """
    reset_update, candidate = gates.split([2 * hidden.size(-1), hidden.size(-1)], -1)
    hidden_reset_update, hidden_candidate = hidden_gates.split([2 * hidden.size(-1), hidden.size(-1)], -1)
    reset, update = (reset_update + hidden_reset_update).sigmoid().chunk(2, -1)
    new = (candidate + reset * hidden_candidate).tanh()
    return torch.lerp(new.to(hidden.dtype), hidden, update.to(hidden.dtype))


def lstm_cell(
    gates: Float[Tensor, "*B G"], hidden_gates: Float[Tensor, "*B G"], cell: Float[Tensor, "*B H"]
) -> tuple[Float[Tensor, "*B H"], Float[Tensor, "*B H"]]:
    """Return the next h and c of an LSTM (Hochreiter & Schmidhuber 1997; as `torch.nn.LSTM`).

    i, f, o = σ(W x + b + U h + b'), g = tanh(W x + b + U h + b'), c' = f c + i g, h' = o tanh c'.
    """
    inp, forget, new, out = (gates + hidden_gates).chunk(4, -1)
    cell = forget.sigmoid() * cell + inp.sigmoid() * new.tanh()
    return out.sigmoid() * cell.tanh(), cell


def _fast_unroll(rnns: Sequence[Any], inputs: Sequence[Tensor], state: State | None = None) -> Float[Tensor, "D T B H"]:
    """Train a GRU on a CPU by `gru`. For all else torch's own code is faster."""
    state = _zeros(rnns, inputs[0]) if state is None else state
    if torch.is_grad_enabled() and inputs[0].is_cpu and isinstance(rnns[0], nn.GRU):
        return _by_layer(rnns, inputs, state, by_gru=True)
    parts = zip(rnns, inputs, *state, strict=True)
    return torch.stack([_by_torch(rnn, x, *first) for rnn, x, *first in parts])


def _by_torch(rnn: Any, x: Tensor, *first: Tensor) -> Tensor:
    """Run torch's module. On a GPU without autocast, which would take float16: its range is too small."""
    with torch.autocast("cuda", enabled=False) if x.is_cuda else nullcontext():
        x = x.to(rnn.weight_hh_l0.dtype) if x.is_cuda else x
        output: Tensor = rnn(x, first[0] if len(first) == 1 else first)[0]
        return output


@accelerated(by=_fast_unroll)
def unroll(
    rnns: Sequence[Any], inputs: Sequence[Float[Tensor, "T B I"]], state: State | None = None
) -> Float[Tensor, "D T B H"]:
    """Return the top layer's outputs for whole sequences.

    Args:
        rnns: a module of one direction for each direction, all of one kind and size.
        inputs: one for each direction.
        state: the first h, and for an LSTM the first c, of all layers: "D L B H". Zeros by default.
    """
    return _by_layer(rnns, inputs, _zeros(rnns, inputs[0]) if state is None else state, by_gru=False)


def _zeros(rnns: Sequence[Any], inputs: Tensor) -> State:
    rnn = rnns[0]
    zeros = rnn.weight_hh_l0.new_zeros(len(rnns), rnn.num_layers, inputs.size(1), rnn.hidden_size)
    return (zeros, zeros) if isinstance(rnn, nn.LSTM) else (zeros,)


def _by_layer(rnns: Sequence[Any], inputs: Sequence[Tensor], state: State, by_gru: bool) -> Float[Tensor, "D T B H"]:
    """Run layer after layer, each over all positions: by the fast `gru`, or step by step."""
    below: Any = inputs  # later one tensor, D T B H
    for layer in range(rnns[0].num_layers):
        if layer and rnns[0].training and rnns[0].dropout:
            below = dropout(below, rnns[0].dropout)
        W, b, U, b_hidden = (
            [getattr(rnn, f"{name}_l{layer}") for rnn in rnns]
            for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
        )
        gates = torch.stack([linear(*xWb) for xWb in zip(below, W, b, strict=True)])  # D T B G
        first = tuple(part[:, layer] for part in state)
        below = (
            gru(gates, torch.stack(U), torch.stack(b_hidden), first[0]) if by_gru else recur(gates, U, b_hidden, first)
        )
    return below


def recur(
    gates: Float[Tensor, "D T B G"], U: Sequence[Tensor], b: Sequence[Tensor], state: State
) -> Float[Tensor, "D T B H"]:
    """Return the outputs of one layer from W x + b of all positions: a step of the cell for each position."""
    outputs = []
    for gates_t in gates.unbind(1):
        hidden_gates = torch.stack([linear(*hUb) for hUb in zip(state[0], U, b, strict=True)])
        state = cell(gates_t, hidden_gates, state)
        outputs.append(state[0])
    return torch.stack(outputs, 1)
