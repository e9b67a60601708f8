"""Subword pieces learnt from the text itself, by the sentencepiece library.

Kudo and Richardson, "SentencePiece: A simple and language independent subword tokenizer and detokenizer
for neural text processing", 2018 (1808.06226). `unigram`: Kudo 2018 (1804.10959). `bpe`: Sennrich et al.
2016 (1508.07909).

Text comes back as it went in: nothing is normalised and every space is kept. Two things make that exact.
A character the model never saw is spelt in its UTF-8 bytes, one piece each (`byte_fallback`). And since the
library writes a space as '▁', a '▁' that the user typed becomes two other characters, and back in decoding;
so does a tab, which cannot stand in the library's table of counted words.
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

MARK = "\ufdd0"  # Unicode keeps it for programs; where a text has it all the same, it is escaped too
SAMPLING = Lock()  # the library has one random generator for all threads
LONGEST_ROW = 2**12  # characters; the library passes over a sentence of more than 2**16 bytes
CHARACTERS_PER_PIECE = 300  # of the sample that `unigram` learns from


def _escape(text: str) -> str:
    """Writes '▁' as MARK 1, a tab as MARK 2 and MARK itself as MARK 0, so that no two texts become one."""
    return text.replace(MARK, MARK + "0").replace("▁", MARK + "1").replace("\t", MARK + "2")


def _unescape(text: str) -> str:
    return text.replace(MARK + "1", "▁").replace(MARK + "2", "\t").replace(MARK + "0", MARK)


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

    def sample_batch(self, texts: Sequence[str], alpha: float, seed: int) -> list[list[int]]:
        """Of `unigram`, a segmentation x with probability ∝ P(x)^alpha (Kudo 2018, 1804.10959, §3.3): less is wilder.

        Of `bpe`, each merge is left out with probability alpha, for good. BPE-dropout's own algorithm (Provilkov et al.
        2020, 1910.13267) draws again before every merge, and with 0.1 makes as many pieces as 0.05 does here.
        """
        escaped = [_escape(text) for text in texts]
        with SAMPLING:
            sentencepiece.set_random_generator_seed(seed)
            return self._processor.encode(
                escaped, enable_sampling=True, alpha=alpha, nbest_size=-1, num_threads=1
            )

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids. Bytes that are not UTF-8, as a model may emit, become U+FFFD."""
        return _unescape(self._processor.decode(list(map(int, ids)))).replace("\n", " ")

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
    samples: ClassVar[bool] = True
    max_lines: int = 1_000_000  # of a larger corpus, learn from a random sample of so many lines

    def __post_init__(self) -> None:
        require_one_of("tokenizer.model_type", self.model_type, ("unigram", "bpe"))
        require_between("tokenizer.max_lines", self.max_lines, 1)
        require_between("tokenizer.vocab_size", self.vocab_size, len(SPECIALS) + 256 * self.byte_fallback + 1)
        if not 0.98 <= self.character_coverage <= 1:
            raise UserError(
                f"tokenizer.character_coverage is {self.character_coverage}: sentencepiece takes 0.98 to 1"
            )

    def train(self, texts: Iterable[str], path: Path) -> Tokenizer:
        """Learns the pieces and writes the model file: the same lines give the same bytes.

        The lines are counted as words, which are all that the library makes of them: memory grows with the
        number of different words. Warns where the corpus supports fewer pieces than asked. A `UserError` where
        there is no text, or where `vocab_size` cannot hold the characters.
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
                max_sentence_length=2**16,  # bytes; the library passes over longer words
                num_threads=1,  # sums of floats depend on the number of threads
                minloglevel=2,  # errors only
            )
        except RuntimeError as error:
            reserved = len(SPECIALS) + 256 * self.byte_fallback
            raise UserError(
                f"{path}: sentencepiece could not learn tokenizer.vocab_size={self.vocab_size} pieces, "
                f"{reserved} of them reserved (specials, bytes), from {len(counts)} words: {error}. "
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
        """Reads a model file; a `UserError` where it is broken or not from `train`."""
        model = path.read_bytes()
        if not model:
            raise UserError(f"{path}: empty tokenizer model; prepare the data again")
        try:
            tokenizer = SentencePieceTokenizer(model)
        except RuntimeError as error:
            raise UserError(f"{path}: not a sentencepiece model ({error}); prepare the data again") from error
        # The settings stand at the end of the file. Cut off, they'd fall back to ones that drop spaces.
        specials = tokenizer.pieces(range(min(len(SPECIALS), len(tokenizer))))
        if specials != list(SPECIALS) or tokenizer.decode(tokenizer.encode("   ")) != "   ":
            raise UserError(f"{path}: cut short, or not a model that heed trained; prepare the data again")
        return tokenizer


def _count_words(lines: Iterable[str], most: int) -> dict[str, int]:
    """How often each word stands in the lines, or in a random sample of `most` lines to half as many.

    The sample is the same each time. (The library's own is not, and holds the lines.)
    """
    counts: Counter[str] = Counter()
    generator, counted, one_in = Random(0), 0, 1
    for line in lines:
        if one_in > 1 and generator.randrange(one_in):
            continue
        if counted == most:  # forget half of all occurrences, at random, and count half of the lines to come
            halves = ((word, generator.getrandbits(count).bit_count()) for word, count in counts.items())
            counts = Counter({word: count for word, count in halves if count})
            counted, one_in = counted // 2, 2 * one_in
        counts.update(line.split(" "))
        counted += 1
    # Between two spaces, and at the ends of a line, there is an empty word, to the library a '▁' alone. It makes two of
    # them out of " ", and passes over an empty line of its input.
    alone = counts.pop("", 0)
    if alone:
        counts[" "] = (alone + 1) // 2
    return counts


def _rows(counts: dict[str, int]) -> Iterator[str]:
    """The words with their counts, as the library reads them; one occurrence of each stands beside other words.

    `unigram` takes as candidates what is repeated in unlike surroundings. A word that is always before the end of a
    line, or always before a space, is none, however frequent: "sind" became "sin" and "d". With one occurrence before a
    space and the others before an end, every word that is repeated is a candidate. (docs/LOG.md)
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
    """The counts made so small that the words, each as often as it counts, have about `most` characters in all.

    To find its first candidates, `unigram` writes every occurrence of every word into one array, with 16 bytes of
    indices for each character. Here a random share of the occurrences is kept (and every character once), then
    the counts of the most frequent words are cut to a common bound: it stays far above those of the pieces that
    are in doubt. On Multi30k and Tatoeba, 8,000 pieces learnt so spell held-out text in 0.2 % fewer to 0.6 % more
    pieces than those learnt from all of it. (docs/LOG.md)
    """
    sizes = {word: len(word) + 2 for word in counts}  # with a '▁' before and an end after it
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
