"""Alignments as pictures: a matplotlib figure, and Unicode shades for a terminal.

The x axis, at the top, has the source tokens. The y axis has the target tokens. Dark cells have large weights.
"""

import shutil
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from heed.files.atomic import write
from heed.text.printable import printable

if TYPE_CHECKING:  # its import takes half a second, which a run without pictures need not wait for
    from matplotlib.figure import Figure

CELL, LONGEST_SIDE = 0.30, 14.0  # inches: the side of a cell, and the longer side of all cells together
LABEL_LENGTH = 20  # characters
FONT = "DejaVu Sans"  # part of matplotlib
SHADES = np.array(["· ", "░░", "▒▒", "▓▓", "██"])
SHADE_EDGES = (0.05, 0.25, 0.5, 0.75)


def alignment_figure(
    pieces: Sequence[str],
    src_pieces: Sequence[str],
    alignment: Float[np.ndarray, "T S"],
) -> "Figure":
    """Return a figure of the weights. Colours range from white for 0 to dark blue for 1, in every figure.

    The figure grows with the sentence up to a limit. Longer sentences get smaller cells, then a label at every k-th
    token only.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    assert alignment.shape == (len(pieces), len(src_pieces)), (
        f"the alignment is {alignment.shape}, its labels {(len(pieces), len(src_pieces))}"
    )
    if alignment.size == 0:  # an empty sentence
        pieces, src_pieces, alignment = [""], [""], np.zeros((1, 1), np.float32)
    num_rows, num_columns = alignment.shape
    cell = min(CELL, LONGEST_SIDE / max(alignment.shape))
    font_size = min(10.0, max(6.5, 72 * cell * 0.5))  # points
    every = int(np.ceil(font_size * 1.2 / (72 * cell)))

    labels, families = _drawable([*pieces, *src_pieces])
    text = {"family": families, "fontsize": font_size, "parse_math": False, "usetex": False, "color": "0.15"}
    figure = Figure(figsize=(num_columns * cell, num_rows * cell), dpi=120, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(alignment, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_xticks([])  # lines and texts draw the same picture as ticks, and faster
    axes.set_yticks([])
    line = {"color": "0.88", "linewidth": min(0.8, 2.4 * cell)}
    axes.vlines(np.arange(num_columns - 1) + 0.5, -0.5, num_rows - 0.5, **line)
    axes.hlines(np.arange(num_rows - 1) + 0.5, -0.5, num_columns - 0.5, **line)
    edge = -0.5 - 3.5 / 72 / cell  # 3.5 points from the cells, as the labels of ticks are
    for row in range(0, num_rows, every):
        axes.text(edge, row, labels[row], ha="right", va="center_baseline", **text)
    text |= {"rotation": 55, "rotation_mode": "anchor", "ha": "left", "va": "center"}
    for column in range(0, num_columns, every):
        axes.text(column, edge, labels[num_rows + column], **text)
    for spine in axes.spines.values():
        spine.set_color("0.7")

    # The cells already have their size. The room for the labels is measured and added around them.
    pad = 0.12 * figure.dpi
    box = axes.get_tightbbox(FigureCanvasAgg(figure).get_renderer())
    assert box is not None
    width, height = box.width + 2 * pad, box.height + 2 * pad
    figure.set_size_inches(width / figure.dpi, height / figure.dpi)
    cells = num_columns * cell * figure.dpi, num_rows * cell * figure.dpi
    axes.set_position(((pad - box.x0) / width, (pad - box.y0) / height, cells[0] / width, cells[1] / height))
    return figure


def save_png(figure: "Figure", path: Path) -> None:
    """Write the figure as a PNG file. On failure an earlier file stays intact."""
    write(path, lambda temporary: figure.savefig(temporary, format="png"))


def figure_image(figure: "Figure") -> UInt8[np.ndarray, "H W 3"]:
    """Return the figure as RGB pixels, for TensorBoard's `add_image(..., dataformats="HWC")`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def terminal_heatmap(
    pieces: Sequence[str],
    src_pieces: Sequence[str],
    alignment: Float[np.ndarray, "T S"],
    width: int | None = None,
) -> str:
    """Return the weights as text, two columns each: · is below 0.05, ░ below 0.25, ▒ below 0.5, ▓ below 0.75, █ above.

    Source tokens are written downwards. `width` is in columns, by default the terminal's. Source positions that do not
    fit follow in panels below.
    """
    width = width or shutil.get_terminal_size().columns
    labels = [_shorten(printable(piece)) for piece in pieces]
    margin = max((_columns(label) for label in labels), default=0)
    per_panel = max(1, (width - margin - 1) // 2)
    shaded = SHADES[np.digitize(alignment, SHADE_EDGES)]  # T S
    lines: list[str] = []
    for first in range(0, len(src_pieces), per_panel):
        last = first + per_panel
        heads = [_characters(_shorten(printable(piece))) for piece in src_pieces[first:last]]
        depth = max(map(len, heads))
        heads = [[" "] * (depth - len(head)) + head for head in heads]
        for row in zip(*heads, strict=True):
            cells = (_left_to_right(one) + " " * (2 - _columns(one)) for one in row)
            lines.append((" " * (margin + 1) + "".join(cells)).rstrip())
        for label, weights in zip(labels, shaded, strict=True):
            gap = " " * (margin - _columns(label))
            lines.append(f"{gap}{_left_to_right(label)} {''.join(weights[first:last])}".rstrip())
        lines.append("")
    return "\n".join(lines[:-1])


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _shorten(label: str) -> str:
    return label if len(label) <= LABEL_LENGTH else label[: LABEL_LENGTH - 1] + "…"


def _drawable(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return labels of characters that an installed font can draw, and the families of these fonts."""
    families = {FONT: None}  # a dict keeps the order
    labels = []
    for text in texts:
        drawn = ""
        for one in printable(text).replace("▁", "_"):  # in this font, sentencepiece's mark is a thick bar
            family = _family(one)
            families |= {family: None} if family else {}
            drawn += one if family else _escape(one)
        labels.append(_shorten(drawn))
    return labels, list(families)


@cache
def _family(character: str) -> str | None:
    """Return a family whose regular font can draw the character: matplotlib's own, or a system font, or None."""
    from matplotlib import font_manager, get_data_path

    system = {
        font.name
        for font in font_manager.fontManager.ttflist
        if (font.style, font.weight, font.stretch) == ("normal", 400, "normal")
        and not font.fname.startswith(get_data_path())
        and "Color" not in font.name  # coloured glyphs cannot be drawn
    }
    for family in (FONT, *sorted(system - {FONT})):
        font = font_manager.get_font(font_manager.findfont(family))
        if font.get_char_index(ord(character)):
            return family
    return None


def _characters(text: str) -> list[str]:
    """Return the characters, each with the marks of zero width that follow it."""
    found: list[str] = []
    for one in text:
        if found and _columns(one) == 0:
            found[-1] += one
        else:
            found.append(one)
    return found


def _columns(text: str) -> int:
    """Return the text's width on a terminal: 2 for an East Asian wide character, 0 for a combining mark."""
    return sum(
        0 if unicodedata.category(one) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(one) in "WF")
        for one in text
    )


def _left_to_right(text: str) -> str:
    """Return the text with marks that stop a terminal from reordering the picture around Arabic or Hebrew."""
    if any(unicodedata.bidirectional(one) in ("R", "AL", "AN") for one in text):
        return f"\u200e{text}\u200e"
    return text
