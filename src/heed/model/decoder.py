"""The decoder, in two wirings. Neither knows which score it holds."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from heed import fast
from heed.linear import Linear, linear
from heed.model.attention import Attention, Memory
from heed.model.dropout import Dropout, locked_by
from heed.model.recurrent import Recurrent, State


class Decoder(nn.Module, ABC):
    """A recurrent net over target words that asks the encoder states at every step.

    `step` is the definition. `unroll` gives the same for a known target; the wirings' `forward` takes all that does not
    depend on the step before out of the loop, or does without a loop where no step depends on the last.
    """

    # Whether a step depends on what the last one attended to; else no loop is there to be compiled.
    loops = True

    def __init__(
        self,
        attention: Attention,
        embedding_dim: int,
        hidden_dim: int,
        dropout: Dropout,
        cell: str,
        num_layers: int,
        fed_dim: int,
    ) -> None:
        """Args: `attention`, around any score; E; H, the query's size; `dropout` on the readout and between layers;
        "gru" or "lstm"; how many layers; the size of what the recurrent input holds besides the embedding.

        Between layers dropout is never locked: there each position draws for itself.
        """
        super().__init__()
        self.attention = attention
        self.embedding_dim = embedding_dim
        self.dropout = dropout
        self.recurrent = Recurrent(cell, embedding_dim + fed_dim, hidden_dim, num_layers, dropout.p)
        # Sizes of the state's tensors that the bridge makes.
        self.state_dims = [hidden_dim] * self.recurrent.num_tensors

    def start(self, bridged: State) -> State:
        """The first state, from what the bridge made of the encoder's last."""
        return bridged

    @abstractmethod
    def step(
        self, embedded: Float[Tensor, "B N E"], state: State, memory: Memory
    ) -> tuple[Float[Tensor, "B N R"], State, Float[Tensor, "B N S"]]:
        """One position of N hypotheses per sentence: readout, state, alignment."""

    def unroll(
        self, embedded: Float[Tensor, "B T E"], state: State, memory: Memory
    ) -> tuple[Float[Tensor, "B T R"], Float[Tensor, "B T S"]]:
        """All positions of a known target, from a state of N = 1: readouts and alignments."""
        if fast.compiles_loops() and self.loops:
            return functional_call(self, cast_weights(self), (embedded, state, memory))
        if fast.enabled:
            return self(embedded, state, memory)
        readouts, alignments = [], []
        seed = int(torch.randint(1 << 62, ())) if self.dropout.locked and self.training else None
        for embedded_t in embedded.split(1, 1):
            with locked_by(seed):
                readout, state, alignment = self.step(embedded_t, state, memory)
            readouts.append(readout)
            alignments.append(alignment)
        return torch.cat(readouts, 1), torch.cat(alignments, 1)

    @abstractmethod
    def forward(self, embedded: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor]:
        """The same as `unroll`, faster."""


class BahdanauDecoder(Decoder):
    """The query is the last state, s_{j-1}; the context enters the recurrent update (Bahdanau et al. 2015, 1409.0473).

    s_j = f(s_{j-1}, [y_{j-1}; c_j]); readout: the deep output of appendix A.2.2, a maxout of pairs of
    U_o s_j + V_o y_{j-1} + C_o c_j, with s_j as in equation 4 (the appendix prints s_{j-1}).
    """

    def __init__(
        self,
        attention: Attention,
        embedding_dim: int,
        hidden_dim: int,
        dropout: Dropout,
        cell: str,
        num_layers: int,
    ) -> None:
        key_dim = attention.score.key_dim
        super().__init__(attention, embedding_dim, hidden_dim, dropout, cell, num_layers, key_dim)
        self.deep_output = Linear(hidden_dim + embedding_dim + key_dim, 2 * embedding_dim)  # U_o, V_o, C_o

    def step(
        self, embedded: Float[Tensor, "B N E"], state: State, memory: Memory
    ) -> tuple[Float[Tensor, "B N R"], State, Float[Tensor, "B N S"]]:
        """One position: ask with s_{j-1}, update, read out."""
        context, alignment = self.attention(state[0], memory)
        gates = self.recurrent.input_gates(torch.cat([embedded, context], -1))
        state = self.recurrent.step(gates, state)
        return self._readout(state[0], embedded, context), state, alignment

    def forward(self, embedded: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor]:
        """The loop keeps attention and update; the embedding's gates and the deep output are done at once."""
        gates, W_context = hoist_gates(self.recurrent, embedded)
        masks = self.recurrent.masks(len(gates), state)
        hiddens, contexts, alignments = [], [], []
        for gates_t, masks_t in zip(gates, masks, strict=True):
            state, context, alignment = self._advance(gates_t, W_context, masks_t, state, memory)
            hiddens.append(state[0])
            contexts.append(context)
            alignments.append(alignment)
        readouts = self._readout(torch.cat(hiddens, 1), embedded, torch.cat(contexts, 1))
        return readouts, torch.cat(alignments, 1)

    @fast.compiled
    def _advance(
        self, gates: Tensor, W_context: Tensor, masks: State, state: State, memory: Memory
    ) -> tuple[State, Tensor, Tensor]:
        context, alignment = self.attention(state[0], memory)
        return self.recurrent.step(gates + linear(context, W_context), state, masks), context, alignment

    def _readout(self, hidden: Tensor, embedded: Tensor, context: Tensor) -> Tensor:
        deep = self.deep_output(torch.cat([hidden, embedded, context], -1))
        return self.dropout(deep.unflatten(-1, (-1, 2)).amax(-1), 1)


class LuongDecoder(Decoder):
    """The query is the new state, s_j; the readout s̃_j = tanh(W_c [c_j; s_j]) (Luong et al. 2015, 1508.04025, eq. 5).

    With `input_feeding` (§3.3 there) s̃_j is part of the next input; without, no step depends on attention, and all
    target positions ask at once. s̃ has the embedding's size, so that the output layer can be tied.
    """

    def __init__(
        self,
        attention: Attention,
        embedding_dim: int,
        hidden_dim: int,
        dropout: Dropout,
        cell: str,
        num_layers: int,
        input_feeding: bool = True,
    ) -> None:
        fed_dim = embedding_dim if input_feeding else 0
        super().__init__(attention, embedding_dim, hidden_dim, dropout, cell, num_layers, fed_dim)
        self.loops = self.input_feeding = input_feeding
        self.W_c = Linear(attention.score.key_dim + hidden_dim, embedding_dim, bias=False)

    def start(self, bridged: State) -> State:
        """With input feeding, the first s̃ is zero."""
        if not self.input_feeding:
            return bridged
        return (*bridged, bridged[0].new_zeros(*bridged[0].shape[:2], self.embedding_dim))

    def step(
        self, embedded: Float[Tensor, "B N E"], state: State, memory: Memory
    ) -> tuple[Float[Tensor, "B N R"], State, Float[Tensor, "B N S"]]:
        """One position: update, ask with s_j, read out."""
        size = self.recurrent.num_tensors
        recurrent, fed = state[:size], state[size:]
        recurrent = self.recurrent.step(
            self.recurrent.input_gates(torch.cat([embedded, *fed], -1)), recurrent
        )
        context, alignment = self.attention(recurrent[0], memory)
        attended = self.dropout(self._attended(context, recurrent[0]), 1)
        return attended, (*recurrent, attended) if self.input_feeding else recurrent, alignment

    def forward(self, embedded: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor]:
        """Without input feeding no loop; with it, the embedding's gates and the dropout masks are made before it."""
        if not self.input_feeding:
            hiddens = self.recurrent.unroll(embedded, state)
            context, alignment = self.attention(hiddens, memory)
            return self.dropout(self._attended(context, hiddens), 1), alignment
        gates, W_fed = hoist_gates(self.recurrent, embedded)
        recurrent, attended = state[:-1], state[-1]
        masks = self.recurrent.masks(len(gates), recurrent)
        readout_masks = self.dropout(torch.ones_like(embedded), 1).unsqueeze(2).unbind(1)
        readouts, alignments = [], []
        for gates_t, masks_t, mask in zip(gates, masks, readout_masks, strict=True):
            recurrent, attended, alignment = self._advance(
                gates_t, W_fed, masks_t, mask, recurrent, attended, memory
            )
            readouts.append(attended)
            alignments.append(alignment)
        return torch.cat(readouts, 1), torch.cat(alignments, 1)

    @fast.compiled
    def _advance(
        self,
        gates: Tensor,
        W_fed: Tensor,
        masks: State,
        mask: Tensor,
        recurrent: State,
        attended: Tensor,
        memory: Memory,
    ) -> tuple[State, Tensor, Tensor]:
        recurrent = self.recurrent.step(gates + linear(attended, W_fed), recurrent, masks)
        context, alignment = self.attention(recurrent[0], memory)
        return recurrent, self._attended(context, recurrent[0]) * mask, alignment

    def _attended(self, context: Tensor, hidden: Tensor) -> Tensor:
        return torch.tanh(self.W_c(torch.cat([context, hidden], -1)))


def hoist_gates(recurrent: Recurrent, embedded: Float[Tensor, "B T E"]) -> tuple[tuple[Tensor, ...], Tensor]:
    """The embeddings' share of the input gates, T tensors "B 1 G", and the weights of the input's other part."""
    weight, bias = recurrent.rnn.weight_ih_l0, recurrent.rnn.bias_ih_l0
    W_embedded, W_other = weight.split([embedded.size(-1), weight.size(1) - embedded.size(-1)], 1)
    gates = linear(embedded, W_embedded, bias)
    # Once, since autocast keeps no cast of a view, and a product wants its rows together.
    return gates.unsqueeze(2).unbind(1), W_other.to(gates.dtype).contiguous()


def cast_weights(module: nn.Module) -> dict[str, Tensor]:
    """The matrices of heed's layers in autocast's type, made once: compiled code does not keep autocast's casts.

    Of a user's own score none: there a matrix may be used otherwise than in a product, or in float32 on purpose.
    """
    device = next(module.parameters()).device.type
    if not torch.is_autocast_enabled(device):
        return {}
    dtype = torch.get_autocast_dtype(device)
    return {
        f"{path}.{name}": weight.to(dtype)
        for path, layer in module.named_modules()
        if isinstance(layer, Linear | nn.RNNBase)
        for name, weight in layer.named_parameters(recurse=False)
        if weight.dim() == 2
    }
