"""Made-up translations: alignments, translations of one line, and a small corpus."""

import random

import numpy as np

from heed.search.translator import Translation


def soft(num_rows: int, num_columns: int, seed: int = 0) -> np.ndarray:
    weights = np.random.default_rng(seed).random((num_rows, num_columns)) ** 5
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def translate(text: str, source: str, log_prob: float = -1.5) -> Translation:
    if not source:
        return Translation("", 0.0, [], [], np.zeros((0, 0), np.float32))
    pieces, src_pieces = [*text.split(), "</s>"], [*source.split(), "</s>"]
    return Translation(text, log_prob, pieces, src_pieces, soft(len(pieces), len(src_pieces)))


def corpus(num_lines: int = 31) -> tuple[list[str], list[str]]:
    """Hypotheses and references of made-up words, with characters that a careless reader trips over."""
    draw = random.Random(7)
    words = [
        "Der",
        "der",
        "Hund",
        "läuft",
        "groß,",
        "isn't",
        "3.5",
        "&quot;",
        "a\u2028b",
        "c\x85d",
        "日本語",
        ".",
    ]
    references = [" ".join(draw.choices(words, k=draw.randint(3, 13))) for _ in range(num_lines)]
    hypotheses = [" ".join(w for w in line.split(" ") if draw.random() < 0.8) for line in references]
    hypotheses[3], hypotheses[5], references[7] = "", "  lead and trail \xa0", references[7] + "\u2003"
    return hypotheses, references
