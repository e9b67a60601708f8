"""Attention scores. Each has a file named as its YAML in `configs/score/`. The controls share `controls.py`."""

from heed.score.bahdanau import Bahdanau
from heed.score.base import Score
from heed.score.content import Content
from heed.score.controls import Last, NoAttention, Random, Uniform
from heed.score.dot import Dot
from heed.score.general import General
from heed.score.scaled_dot import ScaledDot

__all__ = [
    "Bahdanau",
    "Content",
    "Dot",
    "General",
    "Last",
    "NoAttention",
    "Random",
    "ScaledDot",
    "Score",
    "Uniform",
]
