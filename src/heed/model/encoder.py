"""The encoder and the bridge to the decoder."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from heed.model.dropout import Dropout
from heed.model.recurrent import State
from heed.ops.linear import Linear
from heed.ops.rnn import RNN, unroll


class Encoder(nn.Module):
    """A GRU or LSTM, in both directions or one (Bahdanau et al. 2015, arXiv 1409.0473, §3.2).

    Padding comes after each sentence, so the forward direction reads it last. For the backward direction, each sentence
    is reversed within its own length. No sentence depends on the others, and this is faster here than packed sequences.

    With `embedding_skip`, each state is h_j + W e_j, where e_j is the embedding of word j. The context then also shows
    which words were attended to. Gehring et al. (2017, arXiv 1705.03122, §3.3) add e_j to the values alone, without W.
    """

    def __init__(
        self,
        cell: str,
        embedding_dim: int,
        hidden_dim: int,
        num_layers: int,
        bidirectional: bool,
        dropout: Dropout,
        embedding_skip: bool = False,
    ) -> None:
        """Set up the layers.

        Args:
            cell: "gru" or "lstm".
            embedding_dim: E.
            hidden_dim: the size of a state in one direction.
            num_layers: in each direction.
            bidirectional: read in both directions. K is then twice `hidden_dim`.
            dropout: between layers and on the states.
            embedding_skip: add W e_j to each state.
        """
        super().__init__()
        self.state_dim = hidden_dim * (2 if bidirectional else 1)  # K
        dims = [embedding_dim] + [self.state_dim] * (num_layers - 1)
        self.forwards = nn.ModuleList(RNN[cell](dim, hidden_dim) for dim in dims)
        self.backwards = nn.ModuleList(RNN[cell](dim, hidden_dim) for dim in (dims if bidirectional else []))
        self.skip = Linear(embedding_dim, self.state_dim, bias=False) if embedding_skip else None  # W
        self.dropout = dropout

    def forward(
        self, embedded: Float[Tensor, "B S E"], mask: Bool[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B S K"], Float[Tensor, "B K"]]:
        """Return the states and the final state. States on padding have no meaning.

        The final state joins the forward direction's state at the last token and the backward direction's at the first.
        """
        lengths = mask.sum(1, keepdim=True)
        # Positions that reverse each sentence and leave its padding in place. Applied twice, they change nothing.
        positions = torch.arange(mask.size(1), device=mask.device)
        reversal = torch.where(mask, lengths - 1 - positions, positions).T[..., None]  # S B 1
        states = embedded.transpose(0, 1)
        for layer, rnns in enumerate(zip(*filter(None, (self.forwards, self.backwards)), strict=True)):
            if layer:
                states = self.dropout(states, 0)
            inputs = [states, states.gather(0, reversal.expand_as(states))] if self.backwards else [states]
            ahead, *behind = unroll(rnns, inputs)
            states = torch.cat([ahead, *(x.gather(0, reversal.expand_as(x)) for x in behind)], -1)  # S B K
        last = ahead.gather(0, (lengths - 1).T[..., None].expand(-1, -1, ahead.size(-1))).squeeze(0)
        final = torch.cat([last, states[0, :, last.size(-1) :]], -1)
        states = states.transpose(0, 1).contiguous()
        if self.skip is not None:
            states = states + self.skip(embedded)
        return self.dropout(states, 1), final


class Bridge(nn.Module):
    """The decoder's first state, tanh(W_s h + b), from the encoder's final state h.

    Bahdanau et al. (2015, §A.2.2) take h from the backward direction alone, without b. Here h has all directions.
    """

    def __init__(self, state_dim: int, dims: list[int]) -> None:
        """Set up W_s.

        Args:
            state_dim: K.
            dims: the sizes of the tensors in the decoder's state that the bridge makes.
        """
        super().__init__()
        self.dims = dims
        self.W_s = Linear(state_dim, sum(dims))

    def forward(self, final: Float[Tensor, "B K"]) -> State:
        """Return a tensor "B 1 H" for each of `dims`, in the data type of the parameters, which states always have."""
        return torch.tanh(self.W_s(final)).to(self.W_s.weight.dtype)[:, None].split(self.dims, -1)
