"""What every corpus is: named splits of aligned lines."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class Corpus(ABC):
    """Parallel text. A subclass is a dataclass whose fields are the keys of its `configs/data/*.yaml`."""

    src: str  # source language code, as in file names and reports
    tgt: str  # target language code

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Names of the splits there are: `train`, `val` and at least one test split."""

    @abstractmethod
    def pairs(self, split: str) -> Iterator[tuple[str, str]]:
        """Streams (source line, target line), without line ends. A `ValueError` names file, line and remedy."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """All on which the pairs depend, as plain JSON: contents (SHA-256), settings, generator version."""

    def alignments(self, split: str) -> list[list[tuple[int, int]]] | None:
        """Gold word alignment per sentence, (source word, target word) from 0, words as split at spaces."""
        return None
