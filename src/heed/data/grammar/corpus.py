"""The embedded corpus: English sentences and their German translations, made by rules from a small lexicon.

Every English sentence has exactly one German translation. Gold links join the words that correspond. A word
that corresponds to several words has several links: "slept" is linked to "hat" and "geschlafen", "im" to
"in the", "kein" to "does not ... a". A separable verb is linked together with its prefix, and a verb
together with sich. English "to" and German zu and um are linked to the infinitive or to each other. A
German article without an English one is linked as its noun is. A comma or full stop belongs to its word.
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

VERSION = 1  # Raise it when the same settings give other sentences.
MOST = 1_000_000  # Largest number of sentences. The rules can make many times more.


@dataclass
class Grammar(Corpus):
    """Splits that share no sentence in either language. They depend on the seed and the sizes alone."""

    src: str = "en"
    tgt: str = "de"
    seed: int = 1
    num_train: int = 20_000  # sentence pairs
    num_val: int = 1_000
    num_test: int = 1_000

    def __post_init__(self) -> None:
        """Raise `UserError` for other languages and for sizes out of range."""
        if (self.src, self.tgt) not in (("en", "de"), ("de", "en")):
            raise UserError(f"data.src={self.src} data.tgt={self.tgt}: the grammar knows en and de, in either order")
        sizes = {"num_train": self.num_train, "num_val": self.num_val, "num_test": self.num_test}
        for key, size in sizes.items():
            require_between(f"data.{key}", size, 1)
        if sum(sizes.values()) > MOST:
            raise UserError(f"data: {sum(sizes.values())} sentences in all; the grammar makes at most {MOST}")

    def splits(self) -> tuple[str, ...]:
        """Return `train`, `val`, `test`."""
        return "train", "val", "test"

    def pairs(self, split: str) -> Iterator[tuple[str, str]]:
        """Stream (source, target) sentences."""
        for en, de, _ in self._split(split):
            yield (en, de) if self.src == "en" else (de, en)

    def alignments(self, split: str) -> list[list[tuple[int, int]]]:
        """Return the gold links of each sentence: (source word, target word), from 0, in order."""
        if self.src == "en":
            return [links for _, _, links in self._split(split)]
        return [sorted((j, i) for i, j in links) for _, _, links in self._split(split)]

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings and the version of the rules."""
        return {"data": "grammar", "version": VERSION, **asdict(self)}

    def _split(self, split: str) -> Iterable[Sentence]:
        if split not in self.splits():
            raise UserError(f"there is no split {split!r}: the grammar has {', '.join(self.splits())}")
        if split == "train":  # not kept: with its links it would take 1.2 kB per pair
            first = self.num_test + self.num_val
            return islice(self._made(), first, first + self.num_train)
        return self._held_out[split]

    @cached_property
    def _held_out(self) -> dict[str, list[Sentence]]:
        made = self._made()
        return {"test": list(islice(made, self.num_test)), "val": list(islice(made, self.num_val))}

    def _made(self) -> Iterator[Sentence]:
        """Yield the sentences of test, val, and train. This order keeps test and val if `num_train` changes.

        All sentences are remembered, 300 bytes per pair, so that none is repeated.
        """
        rng, seen = Random(self.seed), set[str]()
        while True:
            en, de, links = sentence(rng)
            if en not in seen and de not in seen:
                seen.update((en, de))
                yield en, de, links
