"""Encoded sentences in two flat files per side, memory-mapped: they take no memory that the system cannot have back."""

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


def _ids_dtype(vocab_size: int) -> DTypeLike:
    return np.uint16 if vocab_size <= 1 << 16 else np.int32


def _paths(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + ".ids"), path.with_name(path.name + ".offsets")


class TokenStore:
    """One side of a split: sentence i is `ids[offsets[i]:offsets[i + 1]]`, without BOS and EOS."""

    def __init__(self, path: Path, vocab_size: int):
        """Maps what `StoreWriter` wrote for this `path` and `vocab_size`; a `UserError` if it is damaged."""
        ids, offsets = _paths(path)
        self.offsets: NDArray[np.int64] = _map(offsets, np.int64)
        self.ids: NDArray[Any] = _map(ids, _ids_dtype(vocab_size))
        if len(self.offsets) == 0 or self.offsets[-1] != len(self.ids):
            raise UserError(f"{ids}: damaged; delete the directory {path.parent} and prepare again")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Ids of each sentence."""
        return np.diff(self.offsets)

    def rows(
        self, indices: NDArray[np.int64], pad: int
    ) -> tuple[Int64[np.ndarray, "B max"], Int64[np.ndarray, " B"]]:
        """The sentences of these indices, padded on the right with `pad`, and their lengths."""
        starts = self.offsets[indices]
        lengths = self.offsets[indices + 1] - starts
        columns = np.arange(lengths.max(initial=0))
        inside = columns < lengths[:, None]  # B max
        rows = np.full(inside.shape, pad, np.int64)
        rows[inside] = self.ids[(starts[:, None] + columns)[inside]]
        return rows, lengths


class Lines(Sequence[str]):
    """A text file of UTF-8, of which any line is read without the others; each ends in a line feed."""

    def __init__(self, path: Path):
        self.bytes: NDArray[np.uint8] = _map(path, np.uint8)
        parts = range(0, len(self.bytes), 1 << 24)  # a comparison makes as many bytes again
        found = [
            start + np.flatnonzero(self.bytes[start : start + (1 << 24)] == ord("\n")) for start in parts
        ]
        self.ends: NDArray[np.int64] = np.concatenate([np.empty(0, np.int64), *found])

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """A line, without its end."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]  # counts negative ones from the end, and raises IndexError
        start = self.ends[i - 1] + 1 if i else 0
        return self.bytes[start : self.ends[i]].tobytes().decode("utf-8")


def padded(
    sentences: Sequence[Sequence[int]], pad: int
) -> tuple[Int64[np.ndarray, "B max"], Int64[np.ndarray, " B"]]:
    """The same as `TokenStore.rows` of sentences at hand."""
    lengths = np.array([len(ids) for ids in sentences], np.int64)
    inside = np.arange(lengths.max(initial=0)) < lengths[:, None]
    rows = np.full(inside.shape, pad, np.int64)
    rows[inside] = np.fromiter(chain.from_iterable(sentences), np.int64)
    return rows, lengths


class StoreWriter:
    """Writes a `TokenStore` piece by piece, so that memory stays small; a context manager."""

    def __init__(self, path: Path, vocab_size: int):
        self.dtype, self.end, self.files = _ids_dtype(vocab_size), 0, ExitStack()
        self.ids, self.offsets = (self.files.enter_context(file.open("wb")) for file in _paths(path))
        self.offsets.write(np.int64(0).tobytes())

    def add(self, sentences: Sequence[Sequence[int]]) -> None:
        """Appends sentences of ids."""
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
    """A split: sentence i of one side translates sentence i of the other."""

    src: TokenStore
    tgt: TokenStore

    def __post_init__(self) -> None:
        assert len(self.src) == len(self.tgt)

    def __len__(self) -> int:
        return len(self.src)


def _map(path: Path, dtype: DTypeLike) -> NDArray[Any]:
    """A read-only array over the file; an empty file, which cannot be mapped, is an empty array."""
    try:
        size = path.stat().st_size
        return np.asarray(np.memmap(path, dtype, mode="r")) if size else np.empty(0, dtype)
    except (OSError, ValueError) as error:
        advice = f"delete the directory {path.parent} and prepare again"
        raise UserError(f"{path}: damaged ({error}); {advice}") from error
