"""The model: attention, encoder, decoder and their sum."""

from heed.model.attention import Attention, Memory, attend
from heed.model.decoder import BahdanauDecoder, Decoder, LuongDecoder
from heed.model.encoder import Bridge, Encoder
from heed.model.seq2seq import Seq2Seq

__all__ = [
    "Attention",
    "BahdanauDecoder",
    "Bridge",
    "Decoder",
    "Encoder",
    "LuongDecoder",
    "Memory",
    "Seq2Seq",
    "attend",
]
