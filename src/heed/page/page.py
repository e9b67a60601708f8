"""An HTML page of translations: every sentence with its attention weights, tables and charts.

The page is one file that loads nothing. `style.css` and `script.js` are put into `template.html`, and a content
security policy allows the browser these two alone. The sentences are untrusted text. They reach the page as data, which
`script.js` turns into text nodes, never into markup.
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from heed.files.atomic import write
from heed.page.sentences import Shown, check_sentences, digits
from heed.text.printable import printable

LARGEST = 40_000  # cells of a heat map: a browser needs seconds for a larger one
HERE = Path(__file__).parent
NUMBER = re.compile(r"[-+−]?\d|[-–]?$")
UNSAFE = str.maketrans({one: f"\\u{ord(one):04x}" for one in "<>&\u2028\u2029"})


@dataclass
class Table:
    """A table of plain text. The first column names the rows. `head` may be empty."""

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str = ""

    def numeric(self, column: int) -> bool:
        """Return True if the column holds numbers, which are aligned to the right. The first column never does."""
        return column > 0 and all(NUMBER.match(row[column]) for row in self.rows)


@dataclass
class Chart:
    """Lines with a common x axis. `lines` holds the points (x, y) of each system by its name."""

    title: str
    x_label: str
    y_label: str
    lines: dict[str, list[tuple[float, float]]]  # a point that is not finite is left out


def write_page(
    path: Path,
    *,
    title: str,
    source_words: Sequence[Sequence[str]],
    references: Sequence[str],
    systems: Mapping[str, Sequence[Shown]],
    notes: Sequence[str] = (),
    tables: Sequence[Table] = (),
    charts: Sequence[Chart] = (),
    budget: int = 2_000_000,
) -> int:
    """Write the page with as many sentences as fit into `budget` bytes, from the first. Returns their number.

    Any text is safe: it is shown as it is, with invisible characters as `printable` shows them.

    Args:
        path: the file.
        title: the page's heading.
        source_words: of each sentence.
        references: of each sentence.
        systems: each system's translations, by its name. Weights of more than `LARGEST` cells are left out.
        notes: warnings at the top of the page.
        tables: tables before the sentences.
        charts: charts before the sentences.
        budget: bytes.

    Raises:
        UserError: the numbers of sentences differ, or weights have another shape than words × source words.
    """
    check_sentences(source_words, references, systems)
    data = {
        "systems": [printable(name) for name in systems],
        "charts": [
            {
                "title": printable(chart.title),
                "x_label": printable(chart.x_label),
                "y_label": printable(chart.y_label),
                "lines": [  # a list, because an object in JavaScript would sort "2" before "1.5"
                    {"name": printable(name), "points": [p for p in points if all(map(isfinite, p))]}
                    for name, points in chart.lines.items()
                ],
            }
            for chart in charts
        ],
    }
    css, js = (Markup((HERE / name).read_text(encoding="utf-8")) for name in ("style.css", "script.js"))
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else printable(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("template.html")
    total = len(source_words)

    def render(sentences: Sequence[str]) -> bytes:
        inside = f'{_json(data)[:-1]},"sentences":[{",".join(sentences)}]}}'
        return template.render(
            title=title,
            notes=notes,
            tables=tables,
            several=len(systems) > 1,
            css=css,
            js=js,
            policy=f"default-src 'none'; img-src data:; style-src {_hash(css)}; script-src {_hash(js)}; "
            "base-uri 'none'; form-action 'none'",
            data=Markup(inside),
            cut=f"the first {len(sentences):,} of {total:,}" if len(sentences) < total else "",
        ).encode()

    room = budget - len(render([])) - len(f"{total:,}")  # `cut` may grow by these digits
    sentences: list[str] = []
    for source, reference, *shown in zip(source_words, references, *systems.values(), strict=True):
        every = [
            [
                _clean(one.words),
                digits(one.weights) if one.weights.size <= LARGEST else "",
                round(one.bleu, 2),
            ]
            for one in shown
        ]
        sentences.append(_json([_clean(source), printable(reference), every]))
        room -= len(sentences[-1].encode()) + 1
        if room < 0:
            sentences.pop()
            break
    write(path, lambda temporary: temporary.write_bytes(render(sentences)))
    return len(sentences)


def _clean(words: Sequence[str]) -> list[str]:
    return [printable(word) for word in words]


def _json(value: Any) -> str:
    """Return JSON whose texts cannot end the `<script>` element."""
    content = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return content.translate(UNSAFE)


def _hash(text: str) -> str:
    """Return the name of an inline script or style in a content security policy."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
