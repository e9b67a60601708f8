"""A stack of GRU or LSTM layers that takes one step or a whole sequence with the same parameters."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heed import fast
from heed.linear import linear
from heed.model.dropout import dropout
from heed.model.gru import gru

State = tuple[Tensor, ...]
"""What one step hands to the next, each "B N H" with a last axis of its own; which is which, only the owner knows."""

RNN = {"gru": nn.GRU, "lstm": nn.LSTM}


class Recurrent(nn.Module):
    """Layers of `nn.GRU` or `nn.LSTM`, one direction.

    Torch's module holds the parameters and runs whole sequences (`unroll`); `step` is the same function written
    out for one position, where the input depends on the last output. Its state has, for each layer, h (GRU), or
    h and c (LSTM); the top layer's h comes first.
    """

    def __init__(self, cell: str, input_dim: int, hidden_dim: int, num_layers: int, dropout: float) -> None:
        """Args: `cell`, "gru" or "lstm"; sizes; `dropout` between layers."""
        super().__init__()
        self.rnn = RNN[cell](input_dim, hidden_dim, num_layers, dropout=dropout if num_layers > 1 else 0.0)
        self.num_tensors = num_layers * (2 if cell == "lstm" else 1)

    def input_gates(self, inputs: Float[Tensor, "B N I"]) -> Float[Tensor, "B N G"]:
        """The share of the first layer's gates that comes from its input; G is 3H (GRU) or 4H (LSTM).

        It needs no state, so it can be hoisted out of a loop.
        """
        return linear(inputs, self.rnn.weight_ih_l0, self.rnn.bias_ih_l0)

    def masks(self, positions: int, state: State) -> list[tuple[Float[Tensor, "B N H"], ...]]:
        """Dropout of so many steps: for each, a factor of each layer's output but the last one's; none out of training.

        Made before a loop, so that its compiled body draws nothing: the draws are the same, compiled or not.
        """
        layers = self.rnn.num_layers - 1
        if not (layers and self.rnn.dropout and self.training):
            return [()] * positions
        ones = torch.ones_like(state[0]).expand(positions, layers, *state[0].shape)
        return [steps.unbind() for steps in dropout(ones, self.rnn.dropout, True).unbind()]

    def step(self, gates: Float[Tensor, "B N G"], state: State, masks: State | None = None) -> State:
        """One step of all layers from `input_gates` and the state before; `state[0]` of the answer is the output.

        `masks`: its dropout, by default drawn here.
        """
        masks = self.masks(1, state)[0] if masks is None else masks
        rnn, is_lstm = self.rnn, isinstance(self.rnn, nn.LSTM)
        new: list[tuple[Tensor, ...]] = []
        for layer, before in enumerate(self._layers(state)):
            if layer:
                below = new[-1][0] * masks[layer - 1] if masks else new[-1][0]
                gates = linear(below, getattr(rnn, f"weight_ih_l{layer}"), getattr(rnn, f"bias_ih_l{layer}"))
            hidden_gates = linear(
                before[0], getattr(rnn, f"weight_hh_l{layer}"), getattr(rnn, f"bias_hh_l{layer}")
            )
            new.append(
                lstm_cell(gates, hidden_gates, before[1])
                if is_lstm
                else (gru_cell(gates, hidden_gates, before[0]),)
            )
        return tuple(tensor for layer_state in reversed(new) for tensor in layer_state)

    def unroll(self, inputs: Float[Tensor, "B T I"], state: State) -> Float[Tensor, "B T H"]:
        """All positions at once, from a state of N = 1: the outputs of the top layer."""
        stacked = [torch.stack(parts).squeeze(2) for parts in zip(*self._layers(state), strict=True)]  # L B H
        inputs = inputs.transpose(0, 1)
        if not has_fast_gru(self.rnn, inputs):
            return run_rnn(self.rnn, inputs, stacked[0] if len(stacked) == 1 else tuple(stacked)).transpose(
                0, 1
            )
        for layer, hidden in enumerate(stacked[0]):
            below = dropout(inputs, self.rnn.dropout, self.training) if layer else inputs
            inputs = gru_layer([self.rnn], layer, [below], hidden[None])[0]
        return inputs.transpose(0, 1)

    def _layers(self, state: State) -> list[State]:
        """The state of each layer, from the bottom up."""
        size = self.num_tensors // self.rnn.num_layers
        return [state[i : i + size] for i in range(self.num_tensors - size, -1, -size)]


def run_rnns(rnns: Sequence[Any], inputs: Sequence[Float[Tensor, "T B I"]]) -> list[Float[Tensor, "T B H"]]:
    """All outputs of nets of one layer, from a state of zeros: one net for each direction, of one kind and size."""
    if has_fast_gru(rnns[0], inputs[0]):
        hidden = rnns[0].weight_hh_l0.new_zeros(len(rnns), inputs[0].size(1), rnns[0].hidden_size)
        return list(gru_layer(rnns, 0, inputs, hidden))
    return [run_rnn(rnn, x) for rnn, x in zip(rnns, inputs, strict=True)]


def has_fast_gru(rnn: nn.Module, inputs: Tensor) -> bool:
    """Whether `gru_layer` is for it: in training on a CPU. Without a gradient torch's own is faster, being C++."""
    return fast.enabled and torch.is_grad_enabled() and inputs.is_cpu and isinstance(rnn, nn.GRU)


def gru_layer(
    rnns: Sequence[Any],
    layer: int,
    inputs: Sequence[Float[Tensor, "T B I"]],
    hidden: Float[Tensor, "D B H"],
) -> Float[Tensor, "D T B H"]:
    """The outputs of one layer of `nn.GRU`s, one for each direction, all directions at once."""
    W_ih, b_ih, W_hh, b_hh = (
        [getattr(rnn, f"{name}_l{layer}") for rnn in rnns]
        for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
    )
    gates = torch.stack([linear(*xWb) for xWb in zip(inputs, W_ih, b_ih, strict=True)])
    return gru(gates, torch.stack(W_hh), torch.stack(b_hh), hidden)


def run_rnn(
    rnn: nn.Module, inputs: Float[Tensor, "T B I"], state: Tensor | tuple[Tensor, ...] | None = None
) -> Float[Tensor, "T B H"]:
    """All outputs of torch's GRU or LSTM. On a GPU without autocast, which would take float16: too small a range."""
    with torch.autocast(inputs.device.type, enabled=False) if inputs.is_cuda else nullcontext():
        return rnn(inputs.float() if inputs.is_cuda else inputs, state)[0]


def gru_cell(
    gates: Float[Tensor, "B N G"], hidden_gates: Float[Tensor, "B N G"], hidden: Float[Tensor, "B N H"]
) -> Float[Tensor, "B N H"]:
    """The next state of a GRU from W x + b and U h + b' (Cho et al. 2014; as `torch.nn.GRU`, reset after U)."""
    reset_update, candidate = gates.split([2 * hidden.size(-1), hidden.size(-1)], -1)
    hidden_reset_update, hidden_candidate = hidden_gates.split([2 * hidden.size(-1), hidden.size(-1)], -1)
    reset, update = (reset_update + hidden_reset_update).sigmoid().chunk(2, -1)
    new = (candidate + reset * hidden_candidate).tanh()
    return torch.lerp(new.to(hidden.dtype), hidden, update.to(hidden.dtype))


def lstm_cell(
    gates: Float[Tensor, "B N G"], hidden_gates: Float[Tensor, "B N G"], cell: Float[Tensor, "B N H"]
) -> tuple[Float[Tensor, "B N H"], Float[Tensor, "B N H"]]:
    """The next (h, c) of an LSTM from W x + b and U h + b' (Hochreiter & Schmidhuber 1997; as `torch.nn.LSTM`)."""
    inp, forget, new, out = (gates + hidden_gates).chunk(4, -1)
    cell = forget.sigmoid() * cell + inp.sigmoid() * new.tanh()
    return out.sigmoid() * cell.tanh(), cell
