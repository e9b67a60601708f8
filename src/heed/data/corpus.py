"""The interface of corpora: named splits of aligned lines."""

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
        """Return the names of the splits: `train`, `val`, then any test splits."""

    @abstractmethod
    def pairs(self, split: str) -> Iterator[tuple[str, str]]:
        """Stream (source line, target line), without line ends.

        Raises:
            UserError: the text is broken; the message names the file, the line and what to do.
        """

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Return everything that the pairs depend on, as JSON values: SHA-256 digests, settings, versions."""

    def alignments(self, split: str) -> list[list[tuple[int, int]]] | None:
        """Return the gold alignment of each sentence: (source word, target word), from 0. None without one.

        Words are separated by spaces.
        """
        return None

    def resolve(self, split: str) -> str:
        """Return the name of a split. `test` means the first test split if no split has that name.

        Raises:
            UserError: there is no such split; the message lists the splits.
        """
        splits = self.splits()
        if split == "test" and split not in splits:
            split = next((name for name in splits if name not in ("train", "val")), split)
        if split not in splits:
            raise UserError(
                f"there is no split {split!r}: the corpus has {', '.join(splits)} "
                "(set split=..., to train test_split=...)"
            )
        check_file_name(split)  # the configuration of a run is untrusted input
        return split
