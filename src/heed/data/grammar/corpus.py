"""The embedded corpus: English sentences and their German translations, made by rule from a small lexicon.

Every English sentence has exactly one German one. Gold links join the words that correspond, several where one
word stands for more: "slept" with both "hat" and "geschlafen", "im" with "in the", a separable verb with its prefix,
sich with its verb, "does not ... a" with kein. English "to" and German zu, um go with the infinitive or with each
other. German articles that English has not go with their noun. A comma or full stop belongs to its word.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from random import Random
from typing import Any

from heed.data.corpus import Corpus
from heed.data.grammar.sentences import Sentence, sentence
from heed.errors import UserError, require_between

VERSION = 1  # to be raised when the same settings give other sentences
MOST = 1_000_000  # sentences asked for at most; the rules give many times more


@dataclass
class Grammar(Corpus):
    """Splits that share no sentence in either language, a function of the seed and the sizes alone."""

    src: str = "en"
    tgt: str = "de"
    seed: int = 1
    num_train: int = 20_000  # sentence pairs
    num_val: int = 1_000
    num_test: int = 1_000

    def __post_init__(self) -> None:
        """Raises `UserError` for other languages and for impossible sizes."""
        if (self.src, self.tgt) not in (("en", "de"), ("de", "en")):
            raise UserError(
                f"data.src={self.src} data.tgt={self.tgt}: the grammar knows en and de, in either order"
            )
        sizes = {"num_train": self.num_train, "num_val": self.num_val, "num_test": self.num_test}
        for key, size in sizes.items():
            require_between(f"data.{key}", size, 1)
        if sum(sizes.values()) > MOST:
            raise UserError(f"data: {sum(sizes.values())} sentences asked for; ask for at most {MOST} in all")

    def splits(self) -> tuple[str, ...]:
        """`train`, `val` and `test`."""
        return "train", "val", "test"

    def pairs(self, split: str) -> Iterator[tuple[str, str]]:
        """Streams (source, target) sentences."""
        for en, de, _ in self._split(split):
            yield (en, de) if self.src == "en" else (de, en)

    def alignments(self, split: str) -> list[list[tuple[int, int]]]:
        """Gold links per sentence, (source word, target word) from 0, in order."""
        if self.src == "en":
            return [links for _, _, links in self._split(split)]
        return [sorted((j, i) for i, j in links) for _, _, links in self._split(split)]

    def fingerprint(self) -> dict[str, Any]:
        """The settings, and the version of the rules."""
        return {"data": "grammar", "version": VERSION, **asdict(self)}

    def _split(self, split: str) -> Iterable[Sentence]:
        if split not in self.splits():
            raise UserError(f"split {split!r}: the grammar has {', '.join(self.splits())}")
        if split == "train":  # made as it is asked for: kept with its links, it would take 1.2 kB a pair
            first = self.num_test + self.num_val
            return islice(self._made(), first, first + self.num_train)
        return self._held_out[split]

    @cached_property
    def _held_out(self) -> dict[str, list[Sentence]]:
        made = self._made()
        return {"test": list(islice(made, self.num_test)), "val": list(islice(made, self.num_val))}

    def _made(self) -> Iterator[Sentence]:
        """The sentences of test, of val, then of train: so the held-out ones do not depend on `num_train`.

        What has been made must be remembered, so that none comes twice: 300 bytes a pair.
        """
        rng, seen = Random(self.seed), set[str]()
        while True:
            en, de, links = sentence(rng)
            if en not in seen and de not in seen:
                seen.update((en, de))
                yield en, de, links
