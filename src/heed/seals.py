"""Files that tell when they have changed: a format number, and a SHA-256 of the file in itself or in a list.

Of `metrics.jsonl`, which grows, each line does, by a CRC-32.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zlib import crc32

from heed.files import write

FORMAT = 1
"""Of every file that heed reads again; to be raised when an older heed would misread one."""
BLANK = "0" * 64
"""Where a file's seal will stand."""
SEAL = re.compile(rb"sha256[\\\": ]+([0-9a-f]{64})")
HEAD = 1 << 12  # bytes: a seal stands in the first of them
LONGEST_TEXT = 1 << 27  # bytes of a JSON file: parsed, they take many times as much


def seal(path: Path) -> None:
    """Puts the file's SHA-256 (taken with BLANK in its place) where BLANK stands first."""
    with open(path, "r+b") as file:
        place = file.read(HEAD).index(BLANK.encode())
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(place)
        file.write(digest.encode())


def check_seal(path: Path) -> None:
    """`ValueError` where the file is not what `seal` left: rotten, cut, edited, or never sealed."""
    with open(path, "rb") as file:
        found = SEAL.search(head := file.read(HEAD))
        if found:
            digest = hashlib.sha256(head[: found.start(1)] + BLANK.encode())
            file.seek(found.end(1))
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    if not found or digest.hexdigest().encode() != found[1]:
        raise ValueError(
            f"{path} is damaged or was edited: its contents do not have the SHA-256 that it names"
        )


def check_format(path: Path, number: object) -> None:
    """`ValueError` unless this version of heed reads files of that format."""
    if number != FORMAT:
        raise ValueError(
            f"{path} has format {number!r}, but this version of heed reads {FORMAT}: use the one that wrote it"
        )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes it with its format and its seal, for `read_json`."""
    sealed = {"format": FORMAT, "sha256": BLANK, **content}
    write_sealed(path, json.dumps(sealed, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def plain(content: dict[str, Any]) -> dict[str, Any]:
    """The content as it is when it is read again: paths, and numbers that JSON does not have, are text."""
    return json.loads(json.dumps(content, default=str), parse_constant=str)


def write_sealed(path: Path, text: str) -> None:
    """Writes the text with its seal, for which it has BLANK in its beginning."""

    def save(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        seal(temporary)

    write(path, save)


def read_json(path: Path) -> dict[str, Any]:
    """Reads what `write_json` wrote; `ValueError` where it is missing, damaged, of another format, or far too large."""
    check_text(path)
    try:
        content = json.loads(path.read_bytes())
        check_format(path, content.pop("format"))
        del content["sha256"]
    except (KeyError, AttributeError, TypeError, RecursionError) as error:  # sealed, but not by heed
        raise ValueError(f"{path} is no file of heed ({error!r})") from None
    return content


def check_text(path: Path, longest: int = LONGEST_TEXT) -> None:
    """`ValueError` where a sealed text is missing, damaged, or far too large."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.stat().st_size > longest:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes: heed wrote no such file")
    check_seal(path)


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of each file in it, by name."""
    return {path.name: sha256(path) for path in sorted(directory.iterdir()) if path.is_file()}


def sha256(path: Path) -> str:
    """In hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digests(directory: Path, known: dict[str, str], names: Iterable[str]) -> None:
    """`ValueError` that names the first of these files of the directory that does not have its `known` SHA-256."""
    for name in names:
        path = directory / name
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        if known.get(name) != sha256(path):
            raise ValueError(
                f"{path} is damaged or was changed: it does not have the SHA-256 noted when it was made"
            )


def metrics_line(measured: dict[str, Any]) -> str:
    """A line of `metrics.jsonl`, with format and checksum."""
    line = {**measured, "format": FORMAT}
    return json.dumps({**line, "crc32": crc32(json.dumps(line).encode())}) + "\n"


def measured_in(line: bytes) -> dict[str, Any] | None:
    """The content of a line that `metrics_line` made, or None."""
    try:
        found = json.loads(line)
        whole = metrics_line({key: value for key, value in found.items() if key not in ("format", "crc32")})
    except (ValueError, AttributeError):  # no JSON, no dictionary
        return None
    if whole.encode() != line + b"\n":
        return None
    del found["format"], found["crc32"]
    return found
