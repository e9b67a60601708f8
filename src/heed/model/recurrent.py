"""A stack of GRU or LSTM layers that takes one step or a whole sequence with the same parameters."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heed.ops.dropout import dropout
from heed.ops.linear import Linear, linear
from heed.ops.rnn import RNN, cell, unroll

State = tuple[Tensor, ...]
"""What one step hands to the next, each tensor "B N H" with a last axis of its own."""


class Recurrent(nn.Module):
    """Layers of a GRU or LSTM in one direction, over an input y and a part c that is fed back from the step before.

    The first layer's gates are W y + b + C c + U h + b'. W y + b needs no state, so `inputs` computes it for all
    positions at once. torch's module `rnn` holds W, U, b and b' of all layers.

    A state has h (GRU), or h and c (LSTM), for each layer. The top layer's h comes first.
    """

    def __init__(
        self, kind: str, input_dim: int, fed_dim: int, hidden_dim: int, num_layers: int, dropout: float
    ) -> None:
        """Args: "gru" or "lstm"; the sizes of y (I), c (F) and h (H); layers; dropout between layers."""
        super().__init__()
        # Drawn as the parameters of torch's own module over [y; c].
        self.rnn = RNN[kind](input_dim + fed_dim, hidden_dim, num_layers, dropout=dropout if num_layers > 1 else 0.0)
        W, C = self.rnn.weight_ih_l0.detach().split([input_dim, fed_dim], 1)
        self.rnn.input_size, self.rnn.weight_ih_l0 = input_dim, nn.Parameter(W.clone())
        with torch.random.fork_rng(devices=[]):  # its own draw is replaced
            self.C = Linear(fed_dim, len(C), bias=False) if fed_dim else None
        if self.C is not None:
            self.C.weight = nn.Parameter(C.clone())
        self.num_layers = num_layers
        self.num_tensors = num_layers * (2 if kind == "lstm" else 1)

    def inputs(self, y: Float[Tensor, "B T I"]) -> tuple[Tensor, ...]:
        """Return W y + b, "B T G", then the dropout factors of all layers but the top, "B T H", if they drop.

        G is 3H (GRU) or 4H (LSTM).
        """
        gates = linear(y, self.rnn.weight_ih_l0, self.rnn.bias_ih_l0)
        if not (self.training and self.rnn.dropout):
            return (gates,)
        ones = self.rnn.weight_hh_l0.new_ones(self.num_layers - 1, *y.shape[:2], self.rnn.hidden_size)
        return (gates, *dropout(ones, self.rnn.dropout))

    def step(self, x_t: tuple[Tensor, ...], state: State, fed: Float[Tensor, "B N F"] | None = None) -> State:
        """Return the next state, whose first tensor is the output, from one position of `inputs`, the state, and c."""
        gates, *masks = x_t
        if self.C is not None:
            gates = gates + self.C(fed)
        new: list[State] = []
        for layer, before in enumerate(self._layers(state)):
            W, U, b, b_hidden = self.rnn.all_weights[layer]
            if layer:
                below = new[-1][0] * masks[layer - 1] if masks else new[-1][0]
                gates = linear(below, W, b)
            new.append(cell(gates, linear(before[0], U, b_hidden), before))
        return tuple(tensor for layer_state in reversed(new) for tensor in layer_state)

    def unroll(self, y: Float[Tensor, "B T I"], state: State) -> Float[Tensor, "B T H"]:
        """Return the outputs for all positions, from a state of N = 1, without c."""
        stacked = [torch.stack(parts).squeeze(2) for parts in zip(*self._layers(state), strict=True)]  # L B H
        outputs = unroll([self.rnn], [y.transpose(0, 1)], tuple(part[None] for part in stacked))
        return outputs[0].transpose(0, 1)

    def _layers(self, state: State) -> list[State]:
        """Return the state of each layer, from the bottom up."""
        size = self.num_tensors // self.num_layers
        return [state[i : i + size] for i in range(self.num_tensors - size, -1, -size)]
