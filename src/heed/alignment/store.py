"""Alignments on disk."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from heed.errors import UserError

LARGEST = 1 << 32  # bytes of a file's alignments


def save_alignments(path: Path, alignments: Sequence[Float[np.ndarray, "_T _S"]]) -> None:
    """Writes matrices of any shapes as two plain arrays: all `weights` in a row, and their `shapes`."""
    flat = [np.asarray(alignment, dtype=np.float32).ravel() for alignment in alignments]
    with path.open("wb") as file:  # to a path numpy would add a suffix
        np.savez_compressed(
            file,
            weights=np.concatenate([np.empty(0, np.float32), *flat]),
            shapes=np.array([alignment.shape for alignment in alignments], dtype=np.int32).reshape(-1, 2),
        )


def load_alignments(path: Path) -> list[Float[np.ndarray, "_T _S"]]:
    """Reads what `save_alignments` wrote; nothing is unpickled. `UserError` where it would take more than LARGEST."""
    with zipfile.ZipFile(path) as packed:
        if sum(member.file_size for member in packed.infolist()) > LARGEST:
            raise UserError(f"{path} would take more than {LARGEST:,} bytes: heed wrote no such file")
    with np.load(path, allow_pickle=False) as stored:
        weights, shapes = stored["weights"], stored["shapes"]
    parts = np.split(weights, np.cumsum(shapes.prod(axis=1))[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=False)]
