"""What every corpus is: named splits of aligned lines."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from heed.errors import UserError
from heed.files.names import check_file_name


@dataclass
class Corpus(ABC):
    """Parallel text. A subclass is a dataclass whose fields are the keys of its `configs/data/*.yaml`."""

    src: str  # source language code, as in file names and reports
    tgt: str  # target language code

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Names of the splits there are: `train`, `val` and any test splits."""

    @abstractmethod
    def pairs(self, split: str) -> Iterator[tuple[str, str]]:
        """Streams (source line, target line), without line ends. A `UserError` names file, line and remedy."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """All on which the pairs depend, as plain JSON: contents (SHA-256), settings, generator version."""

    def alignments(self, split: str) -> list[list[tuple[int, int]]] | None:
        """Gold word alignment per sentence, (source word, target word) from 0, words as split at spaces."""
        return None

    def resolve(self, split: str) -> str:
        """The name of a split; `test` is the first test split if none has that name.

        `UserError` lists the splits that there are.
        """
        splits = self.splits()
        if split == "test" and split not in splits:
            split = next((name for name in splits if name not in ("train", "val")), split)
        if split not in splits:
            raise UserError(
                f"there is no split {split!r}: the corpus has {', '.join(splits)} "
                "(set split=..., to train test_split=...)"
            )
        check_file_name(split)  # a run's own configuration may come from anywhere
        return split
