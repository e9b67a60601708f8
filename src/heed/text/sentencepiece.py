"""Subword pieces learnt from the text itself, by the sentencepiece library.

Kudo and Richardson, "SentencePiece: A simple and language independent subword tokenizer and detokenizer
for neural text processing", 2018 (1808.06226). `unigram`: Kudo 2018 (1804.10959). `bpe`: Sennrich et al.
2016 (1508.07909).

Text comes back as it went in: nothing is normalised and every space is kept. Two things make that exact.
A character the model never saw is spelt in its UTF-8 bytes, one piece each (`byte_fallback`). And since the
library writes a space as '▁', a '▁' that the user typed becomes two other characters, and back in decoding.
"""

import io
import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from heed.files import write
from heed.text.tokenizer import (
    BOS,
    EOS,
    PAD,
    SPECIALS,
    UNK,
    UNKNOWN,
    Tokenizer,
    TokenizerSettings,
    printable,
)

MODEL_TYPES = ("unigram", "bpe")
MARK = "\ufdd0"  # Unicode keeps it for programs; where a text has it all the same, it is escaped too


def _escape(text: str) -> str:
    """Writes '▁' as MARK 1 and MARK itself as MARK 0, so that no two texts become one."""
    return text.replace(MARK, MARK + "0").replace("▁", MARK + "1")


def _unescape(text: str) -> str:
    return text.replace(MARK + "1", "▁").replace(MARK + "0", MARK)


class SentencePieceTokenizer(Tokenizer):
    """A trained sentencepiece model. It is only read after loading, so threads can share it."""

    def __init__(self, model: bytes):
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    def __len__(self) -> int:
        return len(self._processor)

    def encode(self, text: str) -> list[int]:
        """Ids of a line; the first word of a line and the same word within it are the same pieces."""
        return self._processor.encode(_escape(text))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many lines, by the library's own threads: one per core."""
        return self._processor.encode([_escape(text) for text in texts])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids. Bytes that are not UTF-8, as a model may emit, become U+FFFD."""
        return _unescape(self._processor.decode(list(ids))).replace("\n", " ")

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The pieces; '▁' is the space before a word, '<0x41>' a byte."""
        return [printable(_unescape(piece)) for piece in self._processor.id_to_piece(list(ids))]


@dataclass
class SentencePiece(TokenizerSettings):
    """Recipe of a sentencepiece model: `configs/tokenizer/sentencepiece.yaml`."""

    model_type: str = "unigram"  # or "bpe"
    vocab_size: int = 8000  # ids in all, with the 4 specials and the 256 bytes; a small corpus gives fewer
    character_coverage: float = 1.0  # share of the text's characters that get a piece of their own
    byte_fallback: bool = True  # spell other characters in bytes; false: they are UNK, and '▁' a space
    max_lines: int = 1_000_000  # of a larger corpus, learn from a random sample of so many lines

    def __post_init__(self) -> None:
        if self.model_type not in MODEL_TYPES:
            choices = " or ".join(MODEL_TYPES)
            raise ValueError(f"tokenizer.model_type={self.model_type!r}: choose {choices}")
        if self.max_lines < 1:
            raise ValueError(f"tokenizer.max_lines={self.max_lines}: needs at least 1 line to learn from")

    def train(self, texts: Iterable[str], path: Path) -> Tokenizer:
        """Learns the pieces and writes the model file: the same lines give the same bytes.

        Warns where the corpus supports fewer pieces than asked. A `ValueError` where there is no text, or
        where `vocab_size` cannot hold the characters.
        """
        model = io.BytesIO()
        lines = _sample(filter(None, texts), self.max_lines)
        if not lines:
            raise ValueError(f"{path}: no text to learn a vocabulary from; is the corpus empty?")
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=map(_escape, lines),
                model_writer=model,
                model_type=self.model_type,
                vocab_size=self.vocab_size,
                hard_vocab_limit=False,  # a corpus too small gives what it has
                character_coverage=self.character_coverage,
                byte_fallback=self.byte_fallback,
                pad_id=PAD,
                unk_id=UNK,
                bos_id=BOS,
                eos_id=EOS,
                unk_surface=UNKNOWN,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                max_sentence_length=2**16,  # bytes; the library passes over longer lines
                num_threads=1,  # sums of floats depend on the number of threads
                minloglevel=2,  # errors only
            )
        except RuntimeError as error:
            reserved = len(SPECIALS) + 256 * self.byte_fallback
            raise ValueError(
                f"{path}: sentencepiece could not learn tokenizer.vocab_size={self.vocab_size} pieces, "
                f"{reserved} of them reserved (specials, bytes), from {len(lines)} lines: {error}. "
                "Raise vocab_size or lower character_coverage."
            ) from error
        write(path, lambda temporary: temporary.write_bytes(model.getvalue()))
        tokenizer = self.load(path)
        if len(tokenizer) < self.vocab_size:
            warnings.warn(
                f"{path.name}: tokenizer.vocab_size={self.vocab_size} pieces were asked for, but the corpus "
                f"supports only {len(tokenizer)}; going on with {len(tokenizer)}",
                stacklevel=2,
            )
        return tokenizer

    def load(self, path: Path) -> Tokenizer:
        """Reads a model file; a `ValueError` where it is broken or not from `train`."""
        model = path.read_bytes()
        if not model:
            raise ValueError(f"{path}: empty tokenizer model; prepare the data again")
        try:
            tokenizer = SentencePieceTokenizer(model)
        except RuntimeError as error:
            raise ValueError(
                f"{path}: not a sentencepiece model ({error}); prepare the data again"
            ) from error
        # The settings stand at the end of the file. Cut off, they'd fall back to ones that drop spaces.
        specials = tokenizer.pieces(range(min(len(SPECIALS), len(tokenizer))))
        if specials != list(SPECIALS) or tokenizer.decode(tokenizer.encode("   ")) != "   ":
            raise ValueError(f"{path}: cut short, or not a model that heed trained; prepare the data again")
        return tokenizer


def _sample(lines: Iterator[str], size: int) -> list[str]:
    """At most `size` lines, each with the same chance, always the same ones (reservoir sampling).

    The library can sample too, but not the same lines in every process.
    """
    generator = random.Random(0)
    kept: list[str] = []
    for number, line in enumerate(lines):
        if number < size:
            kept.append(line)
        elif (place := generator.randrange(number + 1)) < size:
            kept[place] = line
    return kept
