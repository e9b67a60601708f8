"""Text that is safe to show in a terminal or a figure."""

import unicodedata

HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # Unicode's categories of characters without a shape
JOINERS = "\u200c\u200d"  # invisible, but part of the spelling of Persian, Hindi and emoji


def printable(text: str) -> str:
    """Return the text with invisible, control and reordering characters escaped, as in `\\x1b` or `\\u202e`.

    A text of spaces alone becomes `␣`, once for each.
    """
    shown = "".join(
        c if c in JOINERS or unicodedata.category(c) not in HIDDEN else c.encode("unicode_escape").decode()
        for c in text
    )
    return "␣" * len(shown) if shown.isspace() else shown
