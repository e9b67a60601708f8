"""The translation model: embeddings, encoder, bridge, decoder, output layer."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from heed.model.attention import Memory
from heed.model.decoder import Decoder
from heed.model.dropout import Dropout
from heed.model.encoder import Bridge, Encoder
from heed.model.recurrent import State


class Seq2Seq(nn.Module):
    """An encoder-decoder. It joins the parts that it is given, and does not depend on their kinds."""

    def __init__(
        self,
        src_embedding: nn.Embedding,
        tgt_embedding: nn.Embedding,
        encoder: Encoder,
        bridge: Bridge,
        decoder: Decoder,
        output: nn.Linear,
        dropout: Dropout,
        word_dropout: float = 0.0,
    ) -> None:
        """Join the parts. Embeddings and `output` may share a weight.

        Args:
            dropout: on the embeddings.
            word_dropout: the probability of a zero embedding at a source or target position (Sennrich et al.
                2016, "Edinburgh neural machine translation systems for WMT 16", arXiv 1606.02891).
        """
        super().__init__()
        self.src_embedding = src_embedding
        self.tgt_embedding = tgt_embedding
        self.encoder = encoder
        self.bridge = bridge
        self.decoder = decoder
        self.output = output  # R -> V
        self.dropout = dropout
        self.word_dropout = Dropout(word_dropout)

    def _embed(self, embedding: nn.Embedding, ids: Int[Tensor, "B P"]) -> Float[Tensor, "B P E"]:
        embedded = self.dropout(embedding(ids), 1)
        if not self.word_dropout.p:
            return embedded
        return embedded * self.word_dropout(torch.ones_like(embedded[..., :1]))

    def encode(self, src: Int[Tensor, "B S"], src_lengths: Int[Tensor, " B"]) -> tuple[Memory, State]:
        """Return the memory of source sentences, and the decoder's first state. Each sentence ends in EOS."""
        mask = torch.arange(src.size(1), device=src.device) < src_lengths[:, None].to(src.device)
        states, final = self.encoder(self._embed(self.src_embedding, src), mask)
        return self.decoder.attention.remember(states, mask), self.decoder.start(self.bridge(final))

    def forward(
        self, src: Int[Tensor, "B S"], src_lengths: Int[Tensor, " B"], tgt_in: Int[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T R"], Float[Tensor, "B T S"]]:
        """Return readouts and alignments for known targets. `tgt_in` begins with BOS. The loss applies `output`."""
        memory, state = self.encode(src, src_lengths)
        return self.decoder.unroll(self._embed(self.tgt_embedding, tgt_in), state, memory)

    def step(
        self, previous: Int[Tensor, "B N"], state: State, memory: Memory
    ) -> tuple[Float[Tensor, "B N V"], State, Float[Tensor, "B N S"]]:
        """Return logits, state and alignment of one search step with N hypotheses per sentence."""
        readout, state, alignment = self.decoder.step(self._embed(self.tgt_embedding, previous), state, memory)
        return self.output(readout), state, alignment
