"""Attention scores: one file each, named as its YAML in `configs/score/`; the controls share one."""

from heed.score.bahdanau import Bahdanau
from heed.score.content import Content
from heed.score.controls import Last, NoAttention, Random, Uniform
from heed.score.dot import Dot
from heed.score.general import General
from heed.score.scaled_dot import ScaledDot
from heed.score.score import Score

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
