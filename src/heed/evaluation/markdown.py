"""Text and tables as Markdown."""

import re
from collections.abc import Sequence

from heed.text.printable import printable

# But not the _ of `a_b`.
MARKUP = re.compile(r"[\\`*{}\[\]<>|~$&]|:(?=\S)|@|(?<=www)\.|(?<![^\W_])_|_(?![^\W_])", re.IGNORECASE)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """In Markdown."""
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def escape(value: object) -> str:
    """The text as Markdown that shows it and does nothing: no markup, no HTML, no end of a table's cell."""
    # an entity is never markup, wherever it stands
    return MARKUP.sub(lambda found: f"&#{ord(found[0])};", printable(str(value).strip()))
