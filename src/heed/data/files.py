"""A corpus of the user's own line-aligned files."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heed.data.corpus import Corpus
from heed.data.lines import file_sha256, read_aligned
from heed.errors import UserError


@dataclass
class Files(Corpus):
    """One file per split and language in one directory, plain or `.gz`: `train.de`, `train.en`, …"""

    source: str | None = None  # The directory of the files.
    pattern: str = "{split}.{lang}"  # Name of a file. The file may have `.gz` after it.
    train: str = "train"  # Replaces {split} in the names of the training files.
    val: str = "val"  # The same for the validation files.
    test: list[str] = field(default_factory=lambda: ["test"])  # Names of the test splits and of their files.

    def __post_init__(self) -> None:
        if "{split}" not in self.pattern or "{lang}" not in self.pattern:
            raise UserError(f"data.pattern is {self.pattern!r}; it must contain {{split}} and {{lang}}")
        if self.src == self.tgt:
            raise UserError(f"data.src and data.tgt are both {self.src!r}; name two languages")
        if len(set(self.splits())) < len(self.splits()):
            raise UserError(f"data.test is {list(self.test)}; name each split once, and not train or val")

    def splits(self) -> tuple[str, ...]:
        """Return `train`, `val`, and the test splits."""
        return ("train", "val", *self.test)

    def directory(self) -> Path:
        """Return the directory of the files."""
        if self.source is None:
            files = f"{self._name('train', self.src)}, {self._name('train', self.tgt)}, …"
            raise UserError(f"data.source is not set; give the directory of {files}")
        return Path(self.source)

    def pairs(self, split: str) -> Iterator[tuple[str, str]]:
        """Stream (source line, target line), including empty lines."""
        if split not in self.splits():
            raise UserError(f"there is no split {split!r}; there are {', '.join(self.splits())}")
        return read_aligned(self._path(split, self.src), self._path(split, self.tgt))

    def fingerprint(self) -> dict[str, Any]:
        """Return the SHA-256 of every file. Paths are left out, so that the directory can be moved.

        Raises:
            UserError: two splits have the same file.
        """
        if len({self.train, self.val, *self.test}) < len(self.splits()):
            raise UserError(
                f"data.train={self.train}, data.val={self.val}, data.test={list(self.test)}: "
                "two splits have the same file; name a different file for each"
            )
        return {
            split: {side: file_sha256(self._path(split, side)) for side in (self.src, self.tgt)}
            for split in self.splits()
        }

    def _name(self, split: str, lang: str) -> str:
        stem = {"train": self.train, "val": self.val}.get(split, split)
        return self.pattern.replace("{split}", stem).replace("{lang}", lang)

    def _path(self, split: str, lang: str) -> Path:
        path = self.directory() / self._name(split, lang)
        packed = path.with_name(path.name + ".gz")
        if not path.exists() and not packed.exists():
            advice = "check data.source, data.pattern and data.test"
            raise UserError(f"neither {path} nor {packed} exists (from {Path.cwd()}); {advice}")
        return path if path.exists() else packed
