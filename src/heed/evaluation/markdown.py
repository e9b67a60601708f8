"""Text and tables as Markdown."""

import re
from collections.abc import Sequence

from heed.page.page import Table
from heed.text.printable import printable

# The `_` inside `a_b` is no markup.
MARKUP = re.compile(r"[\\`*{}\[\]<>|~$&]|:(?=\S)|@|(?<=www)\.|(?<![^\W_])_|_(?![^\W_])", re.IGNORECASE)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table. Its cells must be Markdown already: see `escape`."""
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def section(content: Table) -> str:
    """Return a heading with a table and its note. All texts are escaped."""
    rows = [list(map(escape, row)) for row in content.rows]
    blocks = [f"## {escape(content.title)}", table(list(map(escape, content.head)), rows)]
    return "\n\n".join([*blocks, escape(content.note)] if content.note else blocks)


def escape(value: object) -> str:
    """Return the text as Markdown that shows it literally: no markup, no HTML, no end of a table's cell."""
    # An entity is never markup, wherever it is.
    return MARKUP.sub(lambda found: f"&#{ord(found[0])};", printable(str(value).strip()))
