"""A corpus of two columns of a tab-separated file, with a random split without leaks."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heed.data.corpus import Corpus
from heed.data.lines import file_sha256, read_lines
from heed.errors import UserError, require_between

SPLITS = ("train", "val", "test")


@dataclass
class Tsv(Corpus):
    """A plain, `.gz` or zipped table without quoting, like the exports of Tatoeba.

    Lines that share a source or a target sentence are linked. Lines that are linked, directly or through
    other lines, form a component, and all of a component is in one split. Therefore no sentence of val or
    test is in train. Lines without text on one side are in train, where preparing drops them.
    """

    file: str | None = None
    member: str | None = None  # the table inside, if `file` is a `.zip`
    columns: list[int] = field(default_factory=lambda: [0, 1])  # columns of source and target, from 0
    val: int = 1000  # pairs held out
    test: int = 1000  # pairs held out
    seed: int = 1  # of the random split

    def __post_init__(self) -> None:
        if len(set(self.columns)) != 2 or len(self.columns) != 2 or min(self.columns) < 0:
            raise UserError(f"data.columns is {list(self.columns)}; give two column numbers, from 0")
        require_between("data.val", self.val, 1)
        require_between("data.test", self.test, 1)
        require_between("data.seed", self.seed, 0)

    def splits(self) -> tuple[str, ...]:
        """Return `train`, `val`, `test`."""
        return SPLITS

    def pairs(self, split: str) -> Iterator[tuple[str, str]]:
        """Stream (source, target) of the split, in the order of the file."""
        if split not in SPLITS:
            raise UserError(f"there is no split {split!r}; there are {', '.join(SPLITS)}")
        wanted = SPLITS.index(split)
        return (pair for label, pair in zip(self._labels, self._rows(), strict=True) if label == wanted)

    def fingerprint(self) -> dict[str, Any]:
        """Return the SHA-256 of the file, and the settings."""
        keys = {key: getattr(self, key) for key in ("member", "val", "test", "seed")}
        return {"file": file_sha256(self._path()), "columns": list(self.columns), **keys}

    def _path(self) -> Path:
        if self.file is None:
            raise UserError("data.file is not set; give the tab-separated file")
        path = Path(self.file)
        if path.exists() and not path.is_file():
            raise UserError(f"data.file={path} is a directory or a pipe: give a file, which can be read more than once")
        return path

    def _rows(self) -> Iterator[tuple[str, str]]:
        for number, line in enumerate(read_lines(self._path(), self.member), start=1):
            cells = line.split("\t")
            if len(cells) <= max(self.columns):
                advice = f"data.columns={list(self.columns)} needs {max(self.columns) + 1}, separated by tabs"
                raise UserError(f"{self.file}: line {number} has {len(cells)} column(s); {advice}")
            yield cells[self.columns[0]], cells[self.columns[1]]

    @cached_property
    def _labels(self) -> NDArray[np.int8]:
        """The split of each line, as its index in SPLITS."""
        roots, blank = self._components()
        sizes = Counter(roots)
        order = [root for root in sizes if root not in blank]
        random.Random(self.seed).shuffle(order)
        label_of: dict[int, int] = {}
        for label in (1, 2):
            room = getattr(self, SPLITS[label])
            for root in order:
                if root not in label_of and sizes[root] <= room:
                    label_of[root] = label
                    room -= sizes[root]
        labels = np.array([label_of.get(root, 0) for root in roots], np.int8)
        train, val, test = np.bincount(labels, minlength=3)
        train -= len(blank)
        if (val, test) != (self.val, self.test) or train == 0:
            advice = "take these, fewer, or another data.seed" if train > 0 else "take fewer"
            linked = max((sizes[root] for root in order), default=0)
            raise UserError(
                f"{self.file}: data.val={self.val} and data.test={self.test} cannot be drawn: "
                f"the draw gives {val} and {test}, leaving {train} for training; {advice}. "
                f"Of {len(roots)} lines {len(blank)} lack a side, and up to {linked} are linked to each other"
            )
        return labels

    def _components(self) -> tuple[list[int], set[int]]:
        """Return the first line of each line's component, and the lines without text on one side.

        The latter are not held out, and link nothing.
        """
        parents: list[int] = []  # disjoint sets of lines: the root of a component is its first line
        first_with: tuple[dict[str, int], dict[str, int]] = ({}, {})
        blank = set()
        for line, pair in enumerate(self._rows()):
            parents.append(line)
            if not all(map(str.strip, pair)):
                blank.add(line)
                continue
            for first, text in zip(first_with, pair, strict=True):
                a, b = _root(parents, line), _root(parents, first.setdefault(text, line))
                parents[max(a, b)] = min(a, b)
        if len(blank) == len(parents):
            raise UserError(f"{self.file}: of {len(parents)} lines none has text in both columns")
        return [_root(parents, line) for line in range(len(parents))], blank


def _root(parents: list[int], line: int) -> int:
    while parents[line] != line:
        parents[line] = line = parents[parents[line]]  # halves the path on the way
    return line
