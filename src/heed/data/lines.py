"""Text files as a stream of lines, with errors that name the file, the line and the byte."""

import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from heed.errors import UserError
from heed.files.checksums import sha256

BOM = "\ufeff"
LONGEST_LINE = 1 << 20  # bytes; a small compressed file can hold a line of gigabytes


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn errors of reading into a `UserError` that names the file and what to do."""
    try:
        yield
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged or cut short ({error}); copy or download it again") from error
    except (OSError, zipfile.BadZipFile, KeyError, RuntimeError) as error:  # RuntimeError: it is encrypted
        advice = f"give a readable file (a relative path starts at {Path.cwd()})"
        raise UserError(f"{path}: cannot be read ({error}); {advice}") from error


def _open(path: Path, member: str | None) -> AbstractContextManager[Any]:
    if member is not None or path.suffix == ".zip":
        packed = zipfile.ZipFile(path)
        if member not in packed.namelist():
            names = ", ".join(packed.namelist()[:5])
            raise UserError(
                f"{path}: a .zip holds files ({names}); name one with data.member (of data=tsv), or unpack it"
            )
        return packed.open(member)
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def decode_lines(readline: Callable[[int], bytes], name: str) -> Iterator[str]:
    r"""Yield the lines of a binary stream as text, without line ends.

    Only \n ends a line: U+2028, \x0b and similar characters stay in the text. A BOM at the start is
    removed, and so is the \r of a CRLF.

    Args:
        readline: reads a line of the stream, like `sys.stdin.buffer.readline`.
        name: the name of the stream in error messages.

    Raises:
        UserError: a line has a NUL, invalid UTF-8 or more than LONGEST_LINE bytes. The message names the line,
            from 1, and the byte, from 0.
    """
    offset = 0  # of the line's first byte
    for number, raw in enumerate(iter(partial(readline, LONGEST_LINE + 1), b""), start=1):
        if len(raw) > LONGEST_LINE:
            raise UserError(
                f"{name}: line {number}, from byte {offset}, has over {LONGEST_LINE:,} bytes; split it into sentences"
            )
        if b"\0" in raw:
            where = f"byte {offset + raw.index(0)}"
            raise UserError(
                f"{name}: line {number} holds a NUL at {where}: not plain text, or UTF-16; save it as UTF-8"
            )
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            byte = f"byte {offset + error.start} (0x{raw[error.start]:02x})"
            raise UserError(f"{name}: line {number} is not UTF-8 at {byte}; save the text as UTF-8") from error
        if offset == 0:
            text = text.removeprefix(BOM)
            if not text:  # the file has only a BOM: it is empty
                return
        offset += len(raw)
        yield text.removesuffix("\n").removesuffix("\r")


def read_lines(path: Path, member: str | None = None) -> Iterator[str]:
    """Stream the lines of a plain or `.gz` file, or of one `member` of a `.zip`. See `decode_lines`.

    Raises:
        UserError: the file is missing, unreadable or damaged, or its text is invalid.
    """
    with _naming(path), _open(path, member) as stream:
        yield from decode_lines(stream.readline, f"{path}:{member}" if member else str(path))


def read_aligned(src: Path, tgt: Path) -> Iterator[tuple[str, str]]:
    """Stream the pairs of two line-aligned files.

    Raises:
        UserError: as `read_lines`, or the files are empty or have different numbers of lines.
    """
    src_lines, tgt_lines = read_lines(src), read_lines(tgt)
    counts = [0, 0]
    for src_line, tgt_line in zip_longest(src_lines, tgt_lines):
        counts[0] += src_line is not None
        counts[1] += tgt_line is not None
        if src_line is not None and tgt_line is not None:
            yield src_line, tgt_line
    if counts[0] != counts[1]:
        raise UserError(
            f"{src} has {counts[0]} lines but {tgt} has {counts[1]}; line i of one must translate line i of the other"
        )
    if counts[0] == 0:
        raise UserError(f"{src} and {tgt} are empty; give files with one sentence on each line")


def file_sha256(path: Path) -> str:
    """Return the file's SHA-256 digest, in hexadecimal. Raises `UserError` if the file cannot be read."""
    with _naming(path):
        return sha256(path)
