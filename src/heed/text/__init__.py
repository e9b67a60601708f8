"""Tokenizers: text to ids and back."""

from heed.text.base import BOS, EOS, PAD, SPACE, SPECIALS, UNK, UNKNOWN, Tokenizer, TokenizerSettings
from heed.text.char import Char
from heed.text.pair import Tokenizers, load_pair, train_pair
from heed.text.sentencepiece import SentencePiece
from heed.text.word import Word

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "SPACE",
    "SPECIALS",
    "UNK",
    "UNKNOWN",
    "Char",
    "SentencePiece",
    "Tokenizer",
    "TokenizerSettings",
    "Tokenizers",
    "Word",
    "load_pair",
    "train_pair",
]
