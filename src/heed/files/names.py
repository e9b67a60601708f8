"""File names made of text."""

import re

from heed.errors import UserError


def file_name(text: str) -> str:
    """Return the text with all characters replaced that a file system, a shell or Hydra would interpret."""
    return re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII)


def check_file_name(name: str) -> None:
    """Raise `UserError` unless the text is a plain file name, which cannot lead to another directory."""
    if not re.fullmatch(r"(?!\.)[\w.+ -]{1,100}", name):
        raise UserError(f"{name!r} becomes part of a file name: use letters, digits, '.', '_', '+' and '-' alone")
