"""Subword tokenizers, trained by the sentencepiece library.

Kudo and Richardson, "SentencePiece: A simple and language independent subword tokenizer and detokenizer
for neural text processing", 2018 (1808.06226). `unigram`: Kudo 2018 (1804.10959). `bpe`: Sennrich et al.
2016 (1508.07909).

Decoding gives exactly the text that was encoded: nothing is normalised and every space is kept.
An unseen character is spelt in its UTF-8 bytes, one piece each (`byte_fallback`). The library writes a
space as '▁', so a '▁' of the text is replaced by two other characters until decoding. A tab is replaced
too, because the library's table of counted words is separated by tabs.
"""

import io
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Lock
from typing import ClassVar

import sentencepiece

from heed.errors import UserError, require_between, require_one_of
from heed.files.atomic import write
from heed.text.base import BOS, EOS, PAD, SPECIALS, UNK, UNKNOWN, Tokenizer, TokenizerSettings
from heed.text.printable import printable

MARK = "\ufdd0"  # Begins an escape. Unicode reserves this character for programs.
SAMPLING = Lock()  # The library has one random generator for all threads.
LONGEST_ROW = 2**12  # Characters. The library skips a sentence of more than 2**16 bytes.
CHARACTERS_PER_PIECE = 300  # Size of the sample that `unigram` learns from.


def _escape(text: str) -> str:
    """Replace '▁' by MARK 1, a tab by MARK 2 and MARK by MARK 0, so that different texts stay different."""
    return text.replace(MARK, MARK + "0").replace("▁", MARK + "1").replace("\t", MARK + "2")


def _unescape(text: str) -> str:
    return text.replace(MARK + "1", "▁").replace(MARK + "2", "\t").replace(MARK + "0", MARK)


class SentencePieceTokenizer(Tokenizer):
    """A trained sentencepiece model. Threads can share it."""

    def __init__(self, model: bytes):
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    def __len__(self) -> int:
        return len(self._processor)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a line. A word has the same pieces at the start of a line and inside it."""
        return self._processor.encode(_escape(text))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of many lines. The library uses one thread per core."""
        return self._processor.encode([_escape(text) for text in texts])

    def sample_batch(self, texts: Sequence[str], alpha: float, seed: int) -> list[list[int]]:
        """Return the ids of many lines, each line split into pieces at random.

        `unigram` draws a segmentation x with probability ∝ P(x)^alpha (Kudo 2018, 1804.10959, §3.3): a
        smaller alpha is more random. `bpe` leaves out each merge with probability alpha, and does not try
        it again. The published BPE-dropout (Provilkov et al. 2020, 1910.13267) draws again before every
        merge: its 0.1 gives as many pieces as 0.05 here.
        """
        escaped = [_escape(text) for text in texts]
        with SAMPLING:
            sentencepiece.set_random_generator_seed(seed)
            return self._processor.encode(escaped, enable_sampling=True, alpha=alpha, nbest_size=-1, num_threads=1)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids. UNK and bytes that are not UTF-8 become U+FFFD."""
        return _unescape(self._processor.decode(list(map(int, ids)))).replace("\n", " ")

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the pieces. '▁' is the space before a word, '<0x41>' is a byte."""
        return [printable(_unescape(piece)) for piece in self._processor.id_to_piece(list(ids))]


@dataclass
class SentencePiece(TokenizerSettings):
    """Settings of a sentencepiece model: `configs/tokenizer/sentencepiece.yaml`."""

    model_type: str = "unigram"  # Or "bpe".
    vocab_size: int = 8000  # With the 4 specials and the 256 bytes. A small corpus gives fewer.
    character_coverage: float = 1.0  # Share of the text's characters that get pieces.
    byte_fallback: bool = True  # True: spell other characters in bytes. False: they are UNK, and '▁' a space.
    samples: ClassVar[bool] = True
    max_lines: int = 1_000_000  # Learn from a random sample of at most this many lines.

    def __post_init__(self) -> None:
        require_one_of("tokenizer.model_type", self.model_type, ("unigram", "bpe"))
        require_between("tokenizer.max_lines", self.max_lines, 1)
        require_between("tokenizer.vocab_size", self.vocab_size, len(SPECIALS) + 256 * self.byte_fallback + 1)
        if not 0.98 <= self.character_coverage <= 1:
            raise UserError(f"tokenizer.character_coverage is {self.character_coverage}: sentencepiece takes 0.98 to 1")

    def train(self, texts: Iterable[str], path: Path) -> Tokenizer:
        """Learn the pieces and write the model file. The same lines give the same bytes.

        The library learns from counted words, so the memory grows with the number of different words.
        Warns if the corpus supports fewer pieces than `vocab_size`.

        Raises:
            UserError: there is no text, or `vocab_size` is too small for the characters.
        """
        model = io.BytesIO()
        counts = _count_words(filter(None, texts), self.max_lines)
        if not counts:
            raise UserError(f"{path}: no text to learn a vocabulary from; is the corpus empty?")
        if self.model_type == "unigram":
            counts = _trim(counts, CHARACTERS_PER_PIECE * self.vocab_size)
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=_rows({_escape(word): count for word, count in counts.items()}),
                input_format="tsv",
                model_writer=model,
                model_type=self.model_type,
                vocab_size=self.vocab_size,
                hard_vocab_limit=False,  # a small corpus gives fewer pieces
                character_coverage=self.character_coverage,
                byte_fallback=self.byte_fallback,
                pad_id=PAD,
                unk_id=UNK,
                bos_id=BOS,
                eos_id=EOS,
                unk_surface=UNKNOWN,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                max_sentence_length=2**16,  # bytes; the library skips longer words
                num_threads=1,  # sums of floats depend on the number of threads
                minloglevel=2,  # errors only
            )
        except RuntimeError as error:
            reserved = len(SPECIALS) + 256 * self.byte_fallback
            raise UserError(
                f"{path}: sentencepiece cannot learn tokenizer.vocab_size={self.vocab_size} pieces "
                f"({reserved} are specials and bytes) from {len(counts)} words ({error}). "
                "Raise vocab_size or lower character_coverage"
            ) from error
        write(path, lambda temporary: temporary.write_bytes(model.getvalue()))
        tokenizer = self.load(path)
        if len(tokenizer) < self.vocab_size:
            warnings.warn(
                f"{path.name}: tokenizer.vocab_size is {self.vocab_size}, but the corpus supports only "
                f"{len(tokenizer)} pieces; going on with {len(tokenizer)}",
                stacklevel=2,
            )
        return tokenizer

    def load(self, path: Path) -> Tokenizer:
        """Read a model that `train` wrote. Raises `UserError` if it is broken or from another program."""
        model = path.read_bytes()
        if not model:
            raise UserError(f"{path}: empty tokenizer model; prepare the data again")
        try:
            tokenizer = SentencePieceTokenizer(model)
        except RuntimeError as error:
            raise UserError(f"{path}: not a sentencepiece model ({error}); prepare the data again") from error
        # The library's settings are at the end of the file. Without them it would use its defaults, which
        # drop spaces.
        specials = tokenizer.pieces(range(min(len(SPECIALS), len(tokenizer))))
        if specials != list(SPECIALS) or tokenizer.decode(tokenizer.encode("   ")) != "   ":
            raise UserError(f"{path}: cut short, or not a model that heed trained; prepare the data again")
        return tokenizer


def _count_words(lines: Iterable[str], most: int) -> dict[str, int]:
    """Count the words of the lines, or of a random sample of between `most` / 2 and `most` lines.

    The same lines give the same sample. The library's own sampling does not, and keeps all lines in memory.
    """
    counts: Counter[str] = Counter()
    generator, counted, one_in = Random(0), 0, 1
    for line in lines:
        if one_in > 1 and generator.randrange(one_in):
            continue
        if counted == most:  # forget a random half of the occurrences, and skip half of the later lines
            halves = ((word, generator.getrandbits(count).bit_count()) for word, count in counts.items())
            counts = Counter({word: count for word, count in halves if count})
            counted, one_in = counted // 2, 2 * one_in
        counts.update(line.split(" "))
        counted += 1
    # An empty word, as between two spaces, is a single '▁' to the library. But the library skips empty
    # lines of its input, and makes two '▁' of " ". So one " " is counted for two empty words.
    alone = counts.pop("", 0)
    if alone:
        counts[" "] = (alone + 1) // 2
    return counts


def _rows(counts: dict[str, int]) -> Iterator[str]:
    """Yield the lines of the library's input: a word and its count, separated by a tab.

    `unigram` takes a string as a candidate piece if it is repeated in different contexts. A word that is
    always followed by the end of a line is no candidate, however frequent: "sind" became "sin" and "d".
    Therefore one occurrence of each word is put into a line with other words, where a space follows it.
    Then every repeated word is a candidate. (docs/LOG.md)
    """
    line: list[str] = []
    size = 0
    for word, count in counts.items():
        if count > 1 and word != " ":
            if line and size + len(word) > LONGEST_ROW:
                yield " ".join(line) + "\t1"
                line, size = [], 0
            line.append(word)
            size += len(word) + 1
            count -= 1
        yield f"{word}\t{count}"
    if line:
        yield " ".join(line) + "\t1"


def _trim(counts: dict[str, int], most: int) -> dict[str, int]:
    """Return smaller counts: the text with so many occurrences of each word has about `most` characters.

    To find its first candidates, `unigram` writes every occurrence of every word into one array. Each
    character takes 16 bytes of indices there. First a random share of the occurrences is kept, and every
    character at least once. Then the counts of the most frequent words are cut to a common bound, which is
    far above the counts of the rare pieces that decide the vocabulary. On Multi30k and Tatoeba, 8,000
    pieces learnt from the reduced counts spell held-out text in 0.2 % fewer to 0.6 % more pieces than 8,000
    pieces learnt from all the text. (docs/LOG.md)
    """
    sizes = {word: len(word) + 2 for word in counts}  # with the '▁' before it and the end after it
    share = 2 * most / sum(sizes[word] * count for word, count in counts.items())
    if share < 1:
        generator, characters = Random(0), set[str]()
        sample: dict[str, int] = {}
        for word, count in counts.items():
            if (kept := int(count * share + generator.random())) or not characters.issuperset(word):
                sample[word] = max(1, kept)
                characters.update(word)
        counts = sample
    room, rest = most, sum(sizes[word] for word in counts)
    for word, count in sorted(counts.items(), key=lambda item: item[1]):
        if count * rest > room:
            bound = max(1, room // rest)
            return {word: min(count, bound) for word, count in counts.items()}
        room -= count * sizes[word]
        rest -= sizes[word]
    return counts
