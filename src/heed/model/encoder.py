"""The encoder and the bridge to the decoder."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from heed.model.dropout import Dropout
from heed.model.recurrent import RNN, State, run_rnn


class Encoder(nn.Module):
    """A GRU or LSTM, in both directions or one (Bahdanau et al. 2015, arXiv 1409.0473, §3.2).

    Padding stands behind each sentence, so reading forwards never meets it first; to read backwards, each sentence is
    reversed within its own length. Rows stay independent without packed sequences, which are slower here.
    """

    def __init__(
        self,
        cell: str,
        embedding_dim: int,
        hidden_dim: int,
        num_layers: int,
        bidirectional: bool,
        dropout: float,
    ) -> None:
        """Args: `cell`, "gru" or "lstm"; `hidden_dim`, per direction; `dropout`, between layers and on the states."""
        super().__init__()
        self.state_dim = hidden_dim * (2 if bidirectional else 1)  # K
        dims = [embedding_dim] + [self.state_dim] * (num_layers - 1)
        self.forwards = nn.ModuleList(RNN[cell](dim, hidden_dim, batch_first=True) for dim in dims)
        self.backwards = nn.ModuleList(
            RNN[cell](dim, hidden_dim, batch_first=True) for dim in (dims if bidirectional else [])
        )
        self.dropout = Dropout(dropout)

    def forward(
        self, embedded: Float[Tensor, "B S E"], mask: Bool[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B S K"], Float[Tensor, "B K"]]:
        """States (meaningless on padding), and the final state: forwards at the last token, backwards at the first."""
        lengths = mask.sum(1, keepdim=True)
        positions = torch.arange(mask.size(1), device=mask.device)
        reversal = torch.where(mask, lengths - 1 - positions, positions)[:, :, None]  # B S 1, its own inverse
        states = embedded
        for layer, forwards in enumerate(self.forwards):
            if layer:
                states = self.dropout(states)
            ahead = run_rnn(forwards, states)
            if not self.backwards:
                states = ahead
                continue
            behind = run_rnn(self.backwards[layer], states.gather(1, reversal.expand_as(states)))
            states = torch.cat([ahead, behind.gather(1, reversal.expand_as(behind))], -1)
        last = ahead.gather(1, (lengths - 1)[:, :, None].expand(-1, -1, ahead.size(-1))).squeeze(1)
        final = torch.cat([last, states[:, 0, last.size(-1) :]], -1)
        return self.dropout(states), final


class Bridge(nn.Module):
    """The decoder's first state, tanh(W_s h), from the encoder's final state (Bahdanau et al. 2015, §A.2.2)."""

    def __init__(self, state_dim: int, dims: list[int]) -> None:
        """Args: `state_dim`, K; `dims`, the size of each tensor of the decoder's state that is learned."""
        super().__init__()
        self.dims = dims
        self.W_s = nn.Linear(state_dim, sum(dims))

    def forward(self, final: Float[Tensor, "B K"]) -> State:
        """One tensor "B 1 H" for each of `dims`, in the parameters' type: states stay in it under autocast too."""
        return torch.tanh(self.W_s(final)).to(self.W_s.weight.dtype)[:, None].split(self.dims, -1)
