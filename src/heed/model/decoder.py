"""The decoder, in two wirings. Neither knows which score it holds."""

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heed.model.attention import Attention, Memory
from heed.model.dropout import Dropout
from heed.model.recurrent import Recurrent, State
from heed.ops.linear import Linear
from heed.ops.loop import loop

Tensors = tuple[Tensor, ...]


class Decoder(nn.Module, ABC):
    """A recurrent network over target words that attends to the encoder states at every step.

    A wiring is three methods. `step` and `unroll` are made of them here, so they always agree:

    - `inputs` does all that needs no state, once for all positions.
    - `advance` does the recurrent part and nothing more, once for each position.
    - `read_out` does all that the recurrence does not need, once for all positions.

    N counts positions in `inputs` and `read_out`, and hypotheses of one position in `step` and `advance`.
    """

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
        """Set up attention and recurrence.

        Args:
            attention: around any score.
            embedding_dim: E.
            hidden_dim: H, the query's size.
            dropout: on the readout. Its probability also holds between layers, where each position draws for itself.
            cell: "gru" or "lstm".
            num_layers: of the recurrence.
            fed_dim: F, the size of what is fed to the recurrence besides the embedding.
        """
        super().__init__()
        self.attention = attention
        self.embedding_dim = embedding_dim
        self.dropout = dropout
        self.recurrent = Recurrent(cell, embedding_dim, fed_dim, hidden_dim, num_layers, dropout.p)
        # Sizes of the state's tensors that the bridge makes.
        self.state_dims = [hidden_dim] * self.recurrent.num_tensors

    def start(self, bridged: State) -> State:
        """Return the first state, from what the bridge made of the encoder's final state."""
        return bridged

    @abstractmethod
    def inputs(self, embedded: Float[Tensor, "B N E"]) -> Tensors:
        """Return all that needs no state, "B N …" each: the embedding's share of the gates, dropout factors."""

    @abstractmethod
    def advance(self, x_t: Tensors, state: State, memory: Memory) -> tuple[State, Tensors]:
        """Return the next state, and what `read_out` needs to know of this position, "B N …" each."""

    @abstractmethod
    def read_out(
        self, seen: Tensors, embedded: Float[Tensor, "B N E"], memory: Memory
    ) -> tuple[Float[Tensor, "B N R"], Float[Tensor, "B N S"]]:
        """Return readouts and alignments, from what `advance` returned."""

    def recurrence(self, x_t: Tensors, state: State, memory: Memory) -> tuple[State, Tensors]:
        """Advance by the recurrence alone over `x_t[0]`: for a wiring in which no step depends on the last attention.

        Such a wiring sets `self.advance = self.recurrence`. `unroll` then runs all positions in one operation.
        """
        state = self.recurrent.step(self.recurrent.inputs(x_t[0]), state)
        return state, state[:1]

    @final
    def step(
        self, embedded: Float[Tensor, "B N E"], state: State, memory: Memory
    ) -> tuple[Float[Tensor, "B N R"], State, Float[Tensor, "B N S"]]:
        """Return readout, next state and alignment at one position of N hypotheses for each sentence."""
        state, seen = self.advance(self.inputs(embedded), state, memory)
        readout, alignment = self.read_out(seen, embedded, memory)
        return readout, state, alignment

    @final
    def unroll(
        self, embedded: Float[Tensor, "B T E"], state: State, memory: Memory
    ) -> tuple[Float[Tensor, "B T R"], Float[Tensor, "B T S"]]:
        """Return readouts and alignments at all positions of a known target, from a state of N = 1."""
        x = self.inputs(embedded)
        if self.advance == self.recurrence:
            seen: Tensors = (self.recurrent.unroll(x[0], state),)
        else:
            seen = loop(self, x, state, memory)
        return self.read_out(seen, embedded, memory)


class BahdanauDecoder(Decoder):
    """The query is the last state, s_{j-1}. The context enters the recurrent update.

    Bahdanau et al. 2015, arXiv 1409.0473, §3.1 and appendix A.2.2.

    s_j = f(s_{j-1}, [y_{j-1}; c_j]). The readout is the deep output of appendix A.2.2: a maxout of pairs of
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

    def inputs(self, embedded: Float[Tensor, "B N E"]) -> Tensors:
        """Return the embeddings' share of the gates."""
        return self.recurrent.inputs(embedded)

    def advance(self, x_t: Tensors, state: State, memory: Memory) -> tuple[State, Tensors]:
        """Attend with s_{j-1}, then update."""
        context, alignment = self.attention(state[0], memory)
        state = self.recurrent.step(x_t, state, fed=context)
        return state, (state[0], context, alignment)

    def read_out(
        self, seen: Tensors, embedded: Float[Tensor, "B N E"], memory: Memory
    ) -> tuple[Float[Tensor, "B N R"], Float[Tensor, "B N S"]]:
        """Return the deep output."""
        hidden, context, alignment = seen
        deep = self.deep_output(torch.cat([hidden, embedded, context], -1))
        return self.dropout(deep.unflatten(-1, (-1, 2)).amax(-1)), alignment


class LuongDecoder(Decoder):
    """The query is the new state, s_j. The readout is s̃_j = tanh(W_c [c_j; s_j]).

    Luong et al. 2015, arXiv 1508.04025, equation 5.

    With `input_feeding` (§3.3 there) s̃_j is part of the next input. Without it no step depends on attention, and all
    target positions attend at once. s̃ has the embedding's size, so that the output layer can be tied.
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
        self.input_feeding = input_feeding
        if not input_feeding:
            self.advance = self.recurrence  # type: ignore[method-assign]
        self.W_c = Linear(attention.score.key_dim + hidden_dim, embedding_dim, bias=False)

    def start(self, bridged: State) -> State:
        """Return the first state. With input feeding, the first s̃ is zero."""
        if not self.input_feeding:
            return bridged
        return (*bridged, bridged[0].new_zeros(*bridged[0].shape[:2], self.embedding_dim))

    def inputs(self, embedded: Float[Tensor, "B N E"]) -> Tensors:
        """Return the embeddings' share of the gates, and the dropout factors of s̃; or the embeddings alone."""
        if not self.input_feeding:
            return (embedded,)
        return (*self.recurrent.inputs(embedded), *self.dropout.masks(embedded))

    def advance(self, x_t: Tensors, state: State, memory: Memory) -> tuple[State, Tensors]:
        """Update with s̃_{j-1}, then attend with s_j."""
        layers = self.recurrent.num_layers
        recurrent = self.recurrent.step(x_t[:layers], state[:-1], fed=state[-1])
        context, alignment = self.attention(recurrent[0], memory)
        attended = self._attended(context, recurrent[0])
        for mask in x_t[layers:]:
            attended = attended * mask
        return (*recurrent, attended), (attended, alignment)

    def read_out(
        self, seen: Tensors, embedded: Float[Tensor, "B N E"], memory: Memory
    ) -> tuple[Float[Tensor, "B N R"], Float[Tensor, "B N S"]]:
        """Return s̃. Without input feeding, attend at all positions first."""
        if self.input_feeding:
            attended, alignment = seen
            return attended, alignment
        context, alignment = self.attention(seen[0], memory)
        return self.dropout(self._attended(context, seen[0])), alignment

    def _attended(self, context: Float[Tensor, "B N K"], hidden: Float[Tensor, "B N H"]) -> Tensor:
        """Return s̃ = tanh(W_c [c; s])."""
        return torch.tanh(self.W_c(torch.cat([context, hidden], -1)))
