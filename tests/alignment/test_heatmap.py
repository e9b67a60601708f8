"""Pictures of alignments: matplotlib figures, and Unicode shades."""

import math
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
from helpers.translations import soft

from heed.alignment import heatmap
from heed.alignment.heatmap import alignment_figure, figure_image, save_png, terminal_heatmap

LABELS = ["▁مرحبا", "你好", "👍", "$x_1$", "a\nb", "\u202eevil", "e\u0301", "नमस्ते", " ", "", "x" * 61, "</s>"]


def test_source_is_across_and_target_is_down():
    alignment = np.zeros((3, 5), np.float32)
    alignment[2, 1] = 1
    figure = alignment_figure(list("abc"), list("vwxyz"), alignment)
    image, (axes,) = figure_image(figure), figure.axes
    assert image.dtype == np.uint8
    rows, columns = axes.texts[:3], axes.texts[3:]
    assert [label.get_text() for label in rows] == list("abc")
    assert [label.get_text() for label in columns] == list("vwxyz")
    for row in range(3):
        for column in range(5):
            x, y = axes.transData.transform((column, row))
            brightness = image[image.shape[0] - 1 - round(y), round(x)].mean()
            assert (brightness < 100) == ((row, column) == (2, 1))
    cells = axes.get_window_extent()
    assert min(label.get_window_extent().y0 for label in columns) > cells.y1
    assert max(label.get_window_extent().x1 for label in rows) < cells.x0
    for row, label in enumerate(rows):
        box = label.get_window_extent()
        assert box.y0 < axes.transData.transform((0, row))[1] < box.y1
    for column, label in enumerate(columns):
        start = label.get_window_extent().x0
        assert column - 0.5 < axes.transData.inverted().transform((start, 0))[0] < column + 0.5


@pytest.mark.parametrize("size", [0, 1, 12, 61, 233])
def test_pictures_are_bounded_uncut_and_without_warnings(size):
    labels = [LABELS[i % len(LABELS)] for i in range(size)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = figure_image(alignment_figure(labels, labels, soft(size, size).reshape(size, size)))
    height, width, _ = image.shape
    assert 50 < height < 2300 and 50 < width < 2300
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert (border == 255).all()


def test_labels_are_text_that_the_font_can_draw(monkeypatch):
    monkeypatch.setattr(heatmap, "_family", lambda one: heatmap.FONT if one < "\u3000" else None)
    figure = alignment_figure(LABELS[:5], LABELS[:5], soft(5, 5))
    labels = figure.axes[0].texts[:5]
    assert [one.get_text() for one in labels] == ["_مرحبا", r"\u4f60\u597d", r"\U0001f44d", "$x_1$", r"a\nb"]
    assert not any(one.get_parse_math() for one in labels)


def test_a_font_of_the_system_is_found_before_giving_up():
    assert heatmap._family("ä") == heatmap._family("م") == heatmap.FONT
    assert heatmap._family("\U0010fffd") is None


def test_pictures_leave_pyplot_alone():
    code = (
        "import sys, numpy; from heed.alignment import heatmap; assert 'matplotlib' not in sys.modules;"
        "heatmap.figure_image(heatmap.alignment_figure(['a'], ['b'], numpy.ones((1, 1))));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_picture_that_fails_leaves_the_earlier_one(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    figure = alignment_figure(["a"], ["b"], np.ones((1, 1)))
    save_png(figure, path)
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG")

    def full(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        save_png(alignment_figure(["c"], ["d"], np.zeros((1, 1))), path)
    assert path.read_bytes() == before


def test_the_terminal_shows_each_weight_in_its_place():
    alignment = np.array([[0.01, 0.1, 0.3, 0.59, 0.0], [0.9, 0.1, 0.0, 0.0, 0.0]], np.float32)
    drawn = terminal_heatmap(["yes", "我"], ["a", "bc", "d", "e", "f"], alignment, width=80)
    assert drawn.split("\n") == [
        "      b",
        "    a c d e f",
        "yes · ░░▒▒▓▓·",
        " 我 ██░░· · ·",
    ]
    assert terminal_heatmap([], [], np.zeros((0, 0)), width=80) == ""


def test_a_narrow_terminal_gets_panels_and_no_commands():
    alignment = soft(12, 12)
    drawn = terminal_heatmap(LABELS, LABELS, alignment, width=30)
    assert all(heatmap._columns(line) <= 30 for line in drawn.split("\n"))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", drawn)
    panels = drawn.split("\n\n")
    assert len(panels) == math.ceil(12 / ((30 - 20 - 1) // 2))
    rows = ["".join(re.sub("[^·░▒▓█]", "", panel.split("\n")[-12 + t]) for panel in panels) for t in range(12)]
    for row, weights in zip(rows, alignment, strict=True):
        shades = re.findall("·|░░|▒▒|▓▓|██", row)
        assert [" ·░▒▓█".index(shade[0]) - 1 for shade in shades] == [
            sum(weight >= edge for edge in heatmap.SHADE_EDGES) for weight in weights
        ]


def test_colours_are_the_same_in_all_pictures():
    (image,) = alignment_figure(["a"], ["b", "c"], np.array([[0.2, 0.1]])).axes[0].images
    assert image.get_clim() == (0, 1)
