"""The encoder and the bridge to the decoder."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from heed.linear import Linear
from heed.model.dropout import Dropout
from heed.model.recurrent import RNN, State, run_rnns


class Encoder(nn.Module):
    """A GRU or LSTM, in both directions or one (Bahdanau et al. 2015, arXiv 1409.0473, §3.2).

    Padding stands behind each sentence, so reading forwards never meets it first; to read backwards, each sentence is
    reversed within its own length. Rows stay independent without packed sequences, which are slower here.

    With `embedding_skip` each state is h_j + W e_j, e_j the word's embedding: a way past the recurrence, so that what
    attention gives back also says which word stands there (Gehring et al. 2017, arXiv 1705.03122, §3.3, add e_j to the
    values alone, and without W).
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
        """Args: `cell`, "gru" or "lstm"; `hidden_dim`, per direction; `dropout`, between layers and on the states."""
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
        """States (meaningless on padding), and the final state: forwards at the last token, backwards at the first."""
        lengths = mask.sum(1, keepdim=True)
        # What reverses each sentence and leaves its padding where it is; twice, it changes nothing.
        positions = torch.arange(mask.size(1), device=mask.device)
        reversal = torch.where(mask, lengths - 1 - positions, positions).T[..., None]  # S B 1
        states = embedded.transpose(0, 1)
        for layer, rnns in enumerate(zip(*filter(None, (self.forwards, self.backwards)), strict=True)):
            if layer:
                states = self.dropout(states, 0)
            inputs = [states, states.gather(0, reversal.expand_as(states))] if self.backwards else [states]
            ahead, *behind = run_rnns(rnns, inputs)
            states = torch.cat([ahead, *(x.gather(0, reversal.expand_as(x)) for x in behind)], -1)  # S B K
        last = ahead.gather(0, (lengths - 1).T[..., None].expand(-1, -1, ahead.size(-1))).squeeze(0)
        final = torch.cat([last, states[0, :, last.size(-1) :]], -1)
        states = states.transpose(0, 1).contiguous()
        if self.skip is not None:
            states = states + self.skip(embedded)
        return self.dropout(states, 1), final


class Bridge(nn.Module):
    """The decoder's first state, tanh(W_s h), from the encoder's final state.

    Bahdanau et al. 2015, §A.2.2, of the backward direction alone and without a bias; here of all directions, with one.
    """

    def __init__(self, state_dim: int, dims: list[int]) -> None:
        """Args: `state_dim`, K; `dims`, the size of each tensor of the decoder's state that is learned."""
        super().__init__()
        self.dims = dims
        self.W_s = Linear(state_dim, sum(dims))

    def forward(self, final: Float[Tensor, "B K"]) -> State:
        """One tensor "B 1 H" for each of `dims`, in the parameters' type: states stay in it under autocast too."""
        return torch.tanh(self.W_s(final)).to(self.W_s.weight.dtype)[:, None].split(self.dims, -1)
