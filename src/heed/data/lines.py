"""Text files as lines: strict, streaming, and clear about what is wrong and where."""

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
from heed.files import checksums

BOM = "\ufeff"
LONGEST_LINE = 1 << 20  # bytes: more is no sentence, and a few packed bytes can stand for gigabytes of them


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns what the system says about a file into a `UserError` that names the file and what to do."""
    try:
        yield
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged or cut short ({error}); copy or download it again") from error
    except (OSError, zipfile.BadZipFile, KeyError, RuntimeError) as error:  # the last: it is encrypted
        advice = f"give a readable file (a relative path starts at {Path.cwd()})"
        raise UserError(f"{path}: cannot be read ({error}); {advice}") from error


def _open(path: Path, member: str | None) -> AbstractContextManager[Any]:
    if member is not None or path.suffix == ".zip":
        packed = zipfile.ZipFile(path)
        if member not in packed.namelist():
            names = ", ".join(packed.namelist()[:5])
            raise UserError(
                f"{path}: a .zip holds files ({names}); name one by data.member (of data=tsv), or unpack it"
            )
        return packed.open(member)
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def decode_lines(readline: Callable[[int], bytes], name: str) -> Iterator[str]:
    r"""Lines of a binary stream, read by such as `sys.stdin.buffer.readline`, as text without their line ends.

    A line ends at \n alone, so U+2028, \x0b and their like stay inside it. A BOM at the start and the \r of
    a CRLF go. The `UserError` for a NUL, for invalid UTF-8 or for a line of more than LONGEST_LINE bytes says `name`,
    the line from 1, the byte from 0.
    """
    offset = 0  # of the line's first byte
    for number, raw in enumerate(iter(partial(readline, LONGEST_LINE + 1), b""), start=1):
        if len(raw) > LONGEST_LINE:
            raise UserError(
                f"{name}: line {number}, from byte {offset}, has over {LONGEST_LINE:,} bytes: cut it into sentences"
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
            raise UserError(
                f"{name}: line {number} is not UTF-8 at {byte}; save the text as UTF-8"
            ) from error
        if offset == 0:
            text = text.removeprefix(BOM)
            if not text:  # nothing but the BOM: an empty file
                return
        offset += len(raw)
        yield text.removesuffix("\n").removesuffix("\r")


def read_lines(path: Path, member: str | None = None) -> Iterator[str]:
    """Streams the lines of a plain or `.gz` file, or of one `member` of a `.zip`; see `decode_lines`.

    Raises:
        UserError: the file is missing, unreadable or damaged, or its text is not clean UTF-8.
    """
    with _naming(path), _open(path, member) as stream:
        yield from decode_lines(stream.readline, f"{path}:{member}" if member else str(path))


def read_aligned(src: Path, tgt: Path) -> Iterator[tuple[str, str]]:
    """Streams the pairs of two line-aligned files.

    Raises:
        UserError: as `read_lines`; or the files have no lines, or not the same number of them.
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
            f"{src} has {counts[0]} lines but {tgt} has {counts[1]}; "
            "line i of one must translate line i of the other"
        )
    if counts[0] == 0:
        raise UserError(f"{src} and {tgt} are empty; give files with one sentence on each line")


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. A `UserError` names a file that cannot be read."""
    with _naming(path):
        return checksums.sha256(path)
