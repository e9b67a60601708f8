"""Encoded sentences, in two flat, memory-mapped files per side."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Int64
from numpy.typing import DTypeLike, NDArray

from heed.errors import UserError

SCAN = 1 << 24  # bytes of a text that are searched for line ends at once, to bound the memory


def _ids_dtype(vocab_size: int) -> DTypeLike:
    return np.uint16 if vocab_size <= 1 << 16 else np.int32


def _paths(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + ".ids"), path.with_name(path.name + ".offsets")


class TokenStore:
    """One side of a split: sentence i is `ids[offsets[i]:offsets[i + 1]]`, without BOS and EOS."""

    def __init__(self, path: Path, vocab_size: int):
        """Map the files that `StoreWriter` wrote for this `path` and `vocab_size`.

        Raises `UserError` if they are damaged.
        """
        ids, offsets = _paths(path)
        self.offsets: NDArray[np.int64] = _map(offsets, np.int64)
        self.ids: NDArray[Any] = _map(ids, _ids_dtype(vocab_size))
        if len(self.offsets) == 0 or self.offsets[-1] != len(self.ids):
            raise UserError(f"{ids}: damaged; delete the directory {path.parent} and prepare again")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """The number of ids of each sentence."""
        return np.diff(self.offsets)

    def rows(self, indices: NDArray[np.int64], pad: int) -> tuple[Int64[np.ndarray, "B max"], Int64[np.ndarray, " B"]]:
        """Return the sentences of these indices, padded on the right with `pad`, and their lengths."""
        starts = self.offsets[indices]
        lengths = self.offsets[indices + 1] - starts
        before = np.cumsum(lengths) - lengths  # ids of the rows above
        places = np.arange(lengths.sum()) + np.repeat(starts - before, lengths)
        return _padded(self.ids[places], lengths, pad), lengths


class Lines(Sequence[str]):
    """A UTF-8 text file with random access to its lines. Each line ends in a line feed."""

    def __init__(self, path: Path):
        self.bytes: NDArray[np.uint8] = _map(path, np.uint8)
        parts = range(0, len(self.bytes), SCAN)
        found = [start + np.flatnonzero(self.bytes[start : start + SCAN] == ord("\n")) for start in parts]
        self.ends: NDArray[np.int64] = np.concatenate([np.empty(0, np.int64), *found])

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Return a line without its line end, or the list of lines of a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]  # handles a negative index, and raises IndexError
        start = self.ends[i - 1] + 1 if i else 0
        return self.bytes[start : self.ends[i]].tobytes().decode("utf-8")


def padded(sentences: Sequence[Sequence[int]], pad: int) -> tuple[Int64[np.ndarray, "B max"], Int64[np.ndarray, " B"]]:
    """Return the sentences, padded on the right with `pad`, and their lengths."""
    lengths = np.array([len(ids) for ids in sentences], np.int64)
    ids = np.fromiter(chain.from_iterable(sentences), np.int64)
    return _padded(ids, lengths, pad), lengths


def _padded(ids: NDArray[Any], lengths: Int64[np.ndarray, " B"], pad: int) -> Int64[np.ndarray, "B max"]:
    """Return concatenated sentences of these lengths as rows, padded on the right."""
    inside = np.arange(lengths.max(initial=0)) < lengths[:, None]  # B max
    rows = np.full(inside.shape, pad, np.int64)
    rows[inside] = ids
    return rows


class StoreWriter:
    """A context manager that writes the files of a `TokenStore` in parts, with little memory."""

    def __init__(self, path: Path, vocab_size: int):
        self.dtype, self.end, self.files = _ids_dtype(vocab_size), 0, ExitStack()
        self.ids, self.offsets = (self.files.enter_context(file.open("wb")) for file in _paths(path))
        self.offsets.write(np.int64(0).tobytes())

    def add(self, sentences: Sequence[Sequence[int]]) -> None:
        """Append sentences of ids."""
        ends = self.end + np.cumsum([len(ids) for ids in sentences], dtype=np.int64)
        self.end = int(ends[-1]) if len(ends) else self.end
        self.offsets.write(ends.tobytes())
        self.ids.write(np.fromiter(chain.from_iterable(sentences), self.dtype).tobytes())

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.files.close()


@dataclass(frozen=True)
class EncodedPairs:
    """A split: sentence i of `tgt` is the translation of sentence i of `src`."""

    src: TokenStore
    tgt: TokenStore

    def __post_init__(self) -> None:
        assert len(self.src) == len(self.tgt)

    def __len__(self) -> int:
        return len(self.src)


def _map(path: Path, dtype: DTypeLike) -> NDArray[Any]:
    """Return a read-only array of the file's contents.

    An empty file, which the system cannot map, gives an empty array.
    """
    try:
        size = path.stat().st_size
        return np.asarray(np.memmap(path, dtype, mode="r")) if size else np.empty(0, dtype)
    except (OSError, ValueError) as error:
        advice = f"delete the directory {path.parent} and prepare again"
        raise UserError(f"{path}: damaged ({error}); {advice}") from error
