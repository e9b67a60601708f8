"""Errors that name the file: what cannot be read or written is the user's to mend."""

from pathlib import Path

import pytest

from heed.errors import UserError, WriteError
from heed.files.atomic import write_text
from heed.files.checksums import sha256, verify_checksum


@pytest.mark.parametrize("use", [sha256, verify_checksum])
def test_what_cannot_be_read_is_named(use, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing cannot be read \(.*No such file"):
        use(tmp_path / "missing")
    with pytest.raises(UserError, match=r"cannot be read \(.*Is a directory"):
        use(tmp_path)


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"nowhere/file cannot be written"):
        write_text(tmp_path / "nowhere" / "file", "text")
