"""Scores and models for the tests, made from the shipped YAMLs as a run makes them."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

import heed.config.schema
from heed.config.components import component
from heed.config.model import build_model, forked
from heed.config.schema import TrainConfig
from heed.model import Seq2Seq
from heed.score import Score

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "custom_score"
FOLDERS = {path.stem: folder for folder in (ROOT, EXAMPLE) for path in sorted(folder.glob("configs/score/*.yaml"))}
CONTROLS = ("last", "none", "random", "uniform")  # tests/test_controls.py is for them
# Every other YAML, the example's too; `concat` is `bahdanau` once more, which tests/test_score.py shows.
SCORES = [name for name in FOLDERS if name not in (*CONTROLS, "concat")]
PRIMARY = {  # the schema of each script's YAML
    name: getattr(heed.config.schema, f"{name.title()}Config")
    for name in ("align", "compare", "evaluate", "train", "translate")
}
WIRINGS = {
    "bahdanau": ("decoder=bahdanau",),
    "luong": ("decoder=luong",),
    "luong-unfed": ("decoder=luong", "decoder.input_feeding=false"),
}


@cache
def score_config(name: str) -> dict[str, Any]:
    with initialize_config_dir(str(FOLDERS[name] / "configs"), version_base="1.3"):
        return dict(compose(f"score/{name}").score)


def make_score(name: str, query_dim: int, key_dim: int, seed: int = 1, **overrides: Any) -> Score:
    """The score of a YAML, initialised as `build_model` does."""
    with forked(seed, "score"):
        return component("score", score_config(name) | overrides, Score, query_dim=query_dim, key_dim=key_dim)


@cache
def joins_any_sizes(name: str) -> bool:
    try:
        make_score(name, 2, 3)
    except ValueError:
        return False
    return True


def composed(name: str, *overrides: str, **options: Any) -> DictConfig:
    """Return what Hydra composes from a YAML in configs/."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose(name, list(overrides), **options)


@cache
def train_config(*overrides: str) -> TrainConfig:
    return heed.config.schema.train_config(composed("train", *overrides), {})


def make_model(
    score: str, wiring: str, vocabularies: tuple[int, int] = (17, 19), seed: int = 1, **settings: Any
) -> Seq2Seq:
    """A model by `build_model`. Sizes: E 5, encoder 7 per direction, decoder 11 if the score joins any two, else 14."""
    config = train_config(*WIRINGS[wiring])
    sizes = {
        "embedding_dim": 5,
        "encoder_dim": 7,
        "decoder_dim": 11 if joins_any_sizes(score) else 14,
        "dropout": 0.0,
        "tie": "none",
    }
    config = replace(config, score=score_config(score), seed=seed, model=replace(config.model, **(sizes | settings)))
    return build_model(config, vocabularies, joint=True)


def padded(lengths: list[int], vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random ids from 4 on, padded with 0, and their lengths."""
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = torch.randint(4, vocabulary, (length,))
    return ids, torch.tensor(lengths)
