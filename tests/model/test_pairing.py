"""Pairing: runs that differ in the score alone differ in nothing else: initial weights, batches, dropout."""

from dataclasses import replace
from itertools import combinations, islice, pairwise
from math import sqrt
from pathlib import Path

import pytest
import torch
from helpers.models import SCORES, WIRINGS, score_config, train_config

from heed.config.components import build_corpus, build_tokenizer_settings
from heed.config.model import build_model, forked
from heed.config.schema import TrainConfig
from heed.data.prepare import Prepared, prepare
from heed.model import Seq2Seq
from heed.run.directory import Run
from heed.training.setup import build_trainer
from heed.training.trainer import Trainer

SCORE = "decoder.attention.score."
SIZES = ("embedding_dim=6", "encoder_dim=7", "encoder_layers=2", "decoder_dim=14", "decoder_layers=2")
PAIRS = list(combinations(SCORES, 2))


def config(score: str, wiring: str, seed: int = 1, *overrides: str) -> TrainConfig:
    """Compose as `score=… decoder=… seed=…` does; the example's scores too."""
    composed = train_config(*WIRINGS[wiring], *(f"model.{size}" for size in SIZES), "model.dropout=0.3", *overrides)
    return replace(composed, score=score_config(score), seed=seed)


def split(model: Seq2Seq) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Parameters of the score, and all others."""
    named = model.state_dict()
    return (
        {name: value for name, value in named.items() if name.startswith(SCORE)},
        {name: value for name, value in named.items() if not name.startswith(SCORE)},
    )


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("tie", ["none", "three"])
def test_every_pair_of_scores_starts_with_the_same_other_weights(wiring, tie):
    models = {
        score: split(build_model(config(score, wiring, 1, f"model.tie={tie}"), (19, 19), True)) for score in SCORES
    }
    for one, two in PAIRS:
        mine, theirs = models[one][1], models[two][1]
        assert mine.keys() == theirs.keys() and len(mine) > 20
        assert all(torch.equal(mine[name], theirs[name]) for name in mine), (one, two)


@pytest.mark.parametrize("wiring", WIRINGS)
def test_another_seed_starts_with_other_weights_everywhere(wiring):
    one, two = (build_model(config("bahdanau", wiring, seed, "model.tie=none"), (19, 19), True) for seed in (1, 2))
    for (name, mine), theirs in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert not torch.equal(mine, theirs) or name == "output.bias", name  # it starts at zero


def test_the_score_itself_has_random_numbers_of_its_own():
    model = build_model(config("general", "luong"), (19, 19), True)
    with forked(1, "score"):
        expected = torch.empty(14, 14)
        torch.nn.init.xavier_uniform_(expected, gain=sqrt(14))
    assert torch.equal(split(model)[0][SCORE + "P"], expected)


@pytest.mark.parametrize("score", SCORES)
def test_building_leaves_the_common_random_numbers_alone(score):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    build_model(config(score, "luong"), (19, 19), True)
    assert torch.equal(torch.get_rng_state(), before)


# --- in training ---


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> tuple[Path, Prepared]:
    directory = tmp_path_factory.mktemp("pairing")
    generator = torch.Generator().manual_seed(0)
    for name, num in (("train", 53), ("val", 5), ("test", 3)):
        lengths = torch.randint(1, 12, (num,), generator=generator).tolist()
        lines = ["".join(map(str, torch.randint(10, (length,), generator=generator).tolist())) for length in lengths]
        (directory / f"{name}.de").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (directory / f"{name}.en").write_text("\n".join(x[::-1] for x in lines) + "\n", encoding="utf-8")
    composed = config("dot", "luong", 1, "tokenizer=char", "data=files", f"data.source={directory}")
    tokenizer = build_tokenizer_settings(composed.tokenizer)
    return directory, prepare(build_corpus(composed.data), tokenizer, directory / "prepared", 250)


def trainer(corpus: tuple[Path, Prepared], score: str, wiring: str, run: Path, seed: int = 1) -> Trainer:
    composed = config(
        score,
        wiring,
        seed,
        "tokenizer=char",
        "data=files",
        f"data.source={corpus[0]}",
        "training.batch_tokens=64",
        "training.precision=fp32",
        "device=cpu",
    )
    directory = Run(run)
    directory.claim(composed, corpus[1].directory)
    return build_trainer(composed, corpus[1], directory)


def test_batches_are_the_same(corpus, tmp_path):
    def ids(score: str, seed: int) -> list[torch.Tensor]:
        batches = trainer(corpus, score, "luong", tmp_path / f"{score}{seed}", seed).batches
        return [batch.indices for batch in islice(batches, 2 * len(batches))]  # two epochs

    first = ids(SCORES[0], 1)
    assert len(first) > 10
    for score in SCORES[1:]:
        assert all(map(torch.equal, first, ids(score, 1)))
    other = ids(SCORES[0], 2)
    assert not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("wiring", WIRINGS)
def test_dropout_does_not_depend_on_the_score(corpus, tmp_path, wiring):
    """Every step draws the same random numbers: their state after a training step is the same, so the masks were."""
    states = {}
    for score in SCORES:
        training = trainer(corpus, score, wiring, tmp_path / score)
        batches = iter(training.batches)
        states[score] = [torch.get_rng_state()]
        for _ in range(3):
            training.update([next(batches)])
            states[score].append(torch.get_rng_state())
        training.monitor.close()
    first = states[SCORES[0]]
    assert all(not torch.equal(a, b) for a, b in pairwise(first))  # dropout is on
    for score in SCORES[1:]:
        assert all(map(torch.equal, first, states[score])), score
