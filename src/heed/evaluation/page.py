"""One HTML page to look at: every sentence, what the decoder looked at for each word of it, tables and charts.

The page is a single file that loads nothing: `page.css` and `page.js` are put into `page.html`, and a content
security policy lets the browser run these two alone. The sentences are text from anywhere, so they reach the
page as data that `page.js` turns into text nodes, never as markup.
"""

import json
import re
import string
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from heed.evaluation.alignment import between_words
from heed.files import write, write_text
from heed.text import EOS, SPACE, SPECIALS
from heed.text.tokenizer import printable

HERE = Path(__file__).parent
END = SPECIALS[EOS]
DIGITS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"  # 64 levels of a weight
NUMBER = re.compile(r"[-+−]?\d|[-–]?$")
UNSAFE = str.maketrans({one: f"\\u{ord(one):04x}" for one in "<>&\u2028\u2029"})


@dataclass
class Shown:
    """One system's translation of one sentence, between words."""

    words: list[str]  # of the hypothesis; the last may be `</s>`
    weights: Float[np.ndarray, "T S"]  # what each of them gave each source word; 0 × 0 where nobody knows
    bleu: float  # of the sentence, 0 to 100


@dataclass
class Table:
    """Plain text in rows, the first column of which names the row; `head` may be empty."""

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str = ""

    def numeric(self, column: int) -> bool:
        """Whether the column holds numbers, which are set to the right; the first never does."""
        return column > 0 and all(NUMBER.match(row[column]) for row in self.rows)


@dataclass
class Chart:
    """Lines over a common x axis: the (x, y) of each system's points, by the system's name."""

    title: str
    x_label: str
    y_label: str
    lines: dict[str, list[tuple[float, float]]]  # points that are not finite are left out


def merge_words(
    pieces: Sequence[str], src_pieces: Sequence[str], alignment: Float[np.ndarray, "T S"]
) -> tuple[list[str], list[str], Float[np.ndarray, "t s"]]:
    """The words that pieces spell on either side, and the alignment between them, whose rows still sum to 1.

    Words begin at '▁', if a side has one; else, and where that would leave fewer than two words (Japanese has no
    spaces), each piece is a word. `</s>` always is. An empty alignment has no words: `[]`, `[]`, 0 × 0.
    """
    if not alignment.size:
        return [], [], np.zeros((0, 0), np.float32)
    (words, places), (src_words, src_places) = _words(pieces), _words(src_pieces)
    return words, src_words, between_words(alignment, places, src_places)


def _words(pieces: Sequence[str]) -> tuple[list[str], list[int]]:
    """The words, and which of them each piece belongs to."""
    spaced = any(piece.startswith(SPACE) for piece in pieces)
    words, places = _split(pieces, spaced)
    if spaced and len(words) - words.count(END) < 2:
        words, places = _split(pieces, False)
    return [word or SPACE for word in words], places  # a space that no word follows


def _split(pieces: Sequence[str], spaced: bool) -> tuple[list[str], list[int]]:
    words: list[str] = []
    places = []
    for piece in pieces:
        begins = not spaced or piece.startswith(SPACE)
        if not words or END in (piece, words[-1]) or (begins and words[-1]):  # a lone '▁' waits for its word
            words.append("")
        words[-1] += piece.lstrip(SPACE)
        places.append(len(words) - 1)
    return words, places


def save_sentences(
    path: Path, source_words: Sequence[Sequence[str]], references: Sequence[str], shown: Sequence[Shown]
) -> None:
    """Writes one JSON object per line of the corpus: `source`, `reference`, `words`, `weights`, `bleu`.

    `weights` is one text, row after row: a digit of base64 (A to Z, a to z, 0 to 9, +, /) per weight, 0 to 63
    for 0 to 1. So a weight that is read again is off by 1/126 at most. Raises a `ValueError` as `write_page`.
    """
    _check(source_words, references, {path.name: shown})
    lines = [
        {
            "source": list(source),
            "reference": reference,
            "words": one.words,
            "weights": _digits(one.weights),
            "bleu": one.bleu,
        }
        for source, reference, one in zip(source_words, references, shown, strict=True)
    ]
    text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    write_text(path, text)


def load_sentences(path: Path) -> tuple[list[list[str]], list[str], list[Shown]]:
    """Reads what `save_sentences` wrote: source words, references, and what is shown. `ValueError` on a bad line."""
    sources, references, shown = [], [], []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):  # bytes: at line ends alone
        try:
            one = json.loads(line)
            source, words, code = one["source"], one["words"], one["weights"]
            if not (isinstance(source, list) and isinstance(words, list)):
                raise TypeError("source and words are lists")
            if not all(isinstance(text, str) for text in [*source, *words, code, one["reference"]]):
                raise TypeError("words, weights and reference are text")
            shape = (len(words), len(source)) if code else (0, 0)
            weights = np.array([DIGITS.index(digit) for digit in code], np.float32).reshape(shape)
            shown.append(Shown(words, weights / (len(DIGITS) - 1), float(one["bleu"])))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path}, line {number}: not a sentence of an evaluation ({error!r}); evaluate the run again"
            ) from error
        sources.append(source)
        references.append(one["reference"])
    return sources, references, shown


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
    """Writes the page, with as many sentences from the first on as fit into `budget` bytes; returns how many.

    `systems` has what each system made of each sentence, by the system's name. All texts may hold anything: they
    are shown as they are, what is invisible in them as `printable` does. Raises a `ValueError` where the counts of
    sentences differ, or weights that are not empty have another shape than words of the translation × source words.
    """
    _check(source_words, references, systems)
    data = {
        "systems": [printable(name) for name in systems],
        "charts": [
            {
                "title": printable(chart.title),
                "x_label": printable(chart.x_label),
                "y_label": printable(chart.y_label),
                "lines": [  # a list: an object would put "2" before "1.5"
                    {"name": printable(name), "points": [p for p in points if all(map(isfinite, p))]}
                    for name, points in chart.lines.items()
                ],
            }
            for chart in charts
        ],
    }
    css, js = (Markup((HERE / f"page.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js"))
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else printable(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html")
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

    room = budget - len(render([])) - len(f"{total:,}")  # the digits that `cut` may grow by
    sentences: list[str] = []
    for source, reference, *shown in zip(source_words, references, *systems.values(), strict=True):
        every = [[_clean(one.words), _digits(one.weights), round(one.bleu, 2)] for one in shown]
        sentences.append(_json([_clean(source), printable(reference), every]))
        room -= len(sentences[-1].encode()) + 1
        if room < 0:
            sentences.pop()
            break
    write(path, lambda temporary: temporary.write_bytes(render(sentences)))
    return len(sentences)


def _check(
    sources: Sequence[Sequence[str]], references: Sequence[str], systems: Mapping[str, Sequence[Shown]]
) -> None:
    for name, many in {"references": references, **systems}.items():
        if len(many) != len(sources):
            raise ValueError(f"{name}: {len(many)} sentences, but {len(sources)} sources")
    for name, shown in systems.items():
        for number, (source, one) in enumerate(zip(sources, shown, strict=True), 1):
            if one.weights.size and one.weights.shape != (len(one.words), len(source)):
                raise ValueError(
                    f"{name}, sentence {number}: weights of shape {one.weights.shape}, "
                    f"but {len(one.words)} words for {len(source)} of the source"
                )


def _digits(weights: Float[np.ndarray, "T S"]) -> str:
    levels = np.rint(np.clip(np.nan_to_num(weights), 0, 1) * (len(DIGITS) - 1)).astype(int)
    return "".join(DIGITS[level] for level in levels.flat)


def _clean(words: Sequence[str]) -> list[str]:
    return [printable(word) for word in words]


def _json(value: Any) -> str:
    """JSON that ends no `<script>`, wherever its texts come from."""
    content = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return content.translate(UNSAFE)


def _hash(text: str) -> str:
    """How a content security policy names an inline script or style."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
