"""Checksummed files: a format version and a SHA-256 digest, in the file itself or in a list of files."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from heed.errors import UserError
from heed.files.atomic import reading, write

FORMAT = 1
"""The version of every file that heed reads again. Raise it when an older heed would misread a file."""
PLACEHOLDER = "0" * 64
"""Stands where a file's own checksum will be written."""
CHECKSUM = re.compile(rb"sha256[\\\": ]+([0-9a-f]{64})")
HEAD = 1 << 12  # bytes: the checksum stands among the first ones
LARGEST_TEXT = 1 << 27  # bytes of a JSON file: once parsed, it takes many times as much memory


def add_checksum(path: Path) -> None:
    """Write the file's SHA-256 over its first PLACEHOLDER. The digest is taken with PLACEHOLDER in its place."""
    with open(path, "r+b") as file:
        place = file.read(HEAD).index(PLACEHOLDER.encode())
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(place)
        file.write(digest.encode())


def verify_checksum(path: Path) -> None:
    """Raise `UserError` unless the file is as `add_checksum` left it."""
    with reading(path), open(path, "rb") as file:
        found = CHECKSUM.search(head := file.read(HEAD))
        if found:
            digest = hashlib.sha256(head[: found.start(1)] + PLACEHOLDER.encode())
            file.seek(found.end(1))
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    if not found or digest.hexdigest().encode() != found[1]:
        raise UserError(f"{path} is damaged or was edited: its contents do not have the SHA-256 that it names")


def check_format(path: Path, number: object) -> None:
    """Raise `UserError` unless this version of heed reads files of that format."""
    if number != FORMAT:
        raise UserError(
            f"{path} has format {number!r}, but this version of heed reads {FORMAT}: use the one that wrote it"
        )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write the content with its format and checksum, for `read_json`."""
    content = {"format": FORMAT, "sha256": PLACEHOLDER, **content}
    write_checksummed(path, json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def to_json_values(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content as it will be read back: paths, and numbers that JSON does not have, become text."""
    values: dict[str, Any] = json.loads(json.dumps(content, default=str), parse_constant=str)
    return values


def write_checksummed(path: Path, text: str) -> None:
    """Write the text with its checksum. The text must have PLACEHOLDER near its beginning."""

    def save(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        add_checksum(temporary)

    write(path, save)


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote. Raises `UserError` if it is missing, damaged, of another format or too large."""
    verify_text_file(path)
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        check_format(path, content.pop("format"))
        del content["sha256"]
    except UserError:
        raise
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:  # not written by heed
        raise UserError(f"{path} was not written by heed ({error!r})") from None
    return content


def verify_text_file(path: Path, largest: int = LARGEST_TEXT) -> None:
    """Raise `UserError` if a checksummed text file is missing, damaged, or larger than `largest` bytes."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.stat().st_size > largest:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes: heed wrote no such file")
    verify_checksum(path)


def sha256(path: Path) -> str:
    """Return the file's SHA-256 digest, in hexadecimal."""
    with reading(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digests(directory: Path) -> dict[str, str]:
    """Return the SHA-256 digest of each file in a directory, by name."""
    return {path.name: sha256(path) for path in sorted(directory.iterdir()) if path.is_file()}


def verify_digests(directory: Path, known: dict[str, str], names: Iterable[str]) -> None:
    """Raise `UserError`, naming the first of these files that is missing or does not have its `known` SHA-256."""
    for name in names:
        path = directory / name
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        if known.get(name) != sha256(path):
            raise UserError(f"{path} is damaged or was changed: it does not have the SHA-256 noted when it was made")
