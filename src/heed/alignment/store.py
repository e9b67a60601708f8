"""Files of alignments."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from heed.errors import UserError

LARGEST = 1 << 32  # bytes of a file's alignments in memory


def save_alignments(path: Path, alignments: Sequence[Float[np.ndarray, "_T _S"]]) -> None:
    """Write matrices of any shapes as two arrays: all `weights` in one vector, and the `shapes`."""
    flat = [np.asarray(alignment, dtype=np.float32).ravel() for alignment in alignments]
    with path.open("wb") as file:  # given a path, numpy adds a suffix
        np.savez_compressed(
            file,
            weights=np.concatenate([np.empty(0, np.float32), *flat]),
            shapes=np.array([alignment.shape for alignment in alignments], dtype=np.int32).reshape(-1, 2),
        )


def load_alignments(path: Path) -> list[Float[np.ndarray, "_T _S"]]:
    """Read the matrices that `save_alignments` wrote. Nothing is unpickled.

    Raises `UserError` if they take more than LARGEST bytes.
    """
    with zipfile.ZipFile(path) as packed:
        if sum(member.file_size for member in packed.infolist()) > LARGEST:
            raise UserError(f"{path} holds more than {LARGEST:,} bytes when unpacked. heed writes no such file")
    with np.load(path, allow_pickle=False) as stored:
        weights, shapes = stored["weights"], stored["shapes"]
    parts = np.split(weights, np.cumsum(shapes.prod(axis=1))[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=False)]
