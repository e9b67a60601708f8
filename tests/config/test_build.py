"""Objects are built from the configuration: what is refused, and what pretrained vectors do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import command, config, overrides, write_corpus
from torch import Tensor

from heed.cli.prepare import prepare
from heed.config.components import component
from heed.errors import UserError
from heed.run.checkpoints import save_state
from heed.run.directory import Run
from heed.run.loading import load_run
from heed.score import Score
from heed.training.setup import build_trainer, fingerprints


class Plain(Score):
    """A user's score with a typed argument, one without a type, and others that it hands on."""

    def __init__(self, query_dim: int, key_dim: int, power: float = 1.0, label="x", **more: Any) -> None:  # type: ignore[no-untyped-def]
        super().__init__(query_dim, key_dim)
        self.power, self.label = power, label

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        return self.power * query @ keys.mT


def test_component_checks_arguments_with_a_type_and_accepts_others() -> None:
    target = {"_target_": f"{__name__}.Plain"}
    score = component("score", {**target, "power": 2, "label": [1, 2]}, Score, query_dim=3, key_dim=5)
    assert (score.power, score.label, score.query_dim, score.key_dim) == (2.0, [1, 2], 3, 5)
    with pytest.raises(UserError, match=r"score\.power.*'strong'"):
        component("score", {**target, "power": "strong"}, Score, query_dim=3, key_dim=5)
    with pytest.raises(UserError, match=r"score has no key color: Plain takes power, label"):
        component("score", {**target, "color": 1}, Score, query_dim=3, key_dim=5)
    with pytest.raises(UserError, match=r"score\._target_ is None"):
        component("score", {}, Score, query_dim=3, key_dim=5)
    with pytest.raises(UserError, match="lacks query_dim"):
        component("score", target, Score, key_dim=5)


class ForCheckers(Plain):
    """A score with an annotation that only a type checker can read."""

    def __init__(self, query_dim: int, key_dim: int, power: "NotThere" = 2) -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__(query_dim, key_dim, power)


def test_an_annotation_that_cannot_be_read_is_not_checked() -> None:
    given = {"_target_": f"{__name__}.ForCheckers", "power": 3}
    score = component("score", given, Score, query_dim=3, key_dim=5)
    assert score.power == 3  # type: ignore[attr-defined]


class Looking(Score):
    """A user's score that reads its numbers while it is made, and has a buffer that is not saved."""

    def __init__(self, query_dim: int, key_dim: int, by_numpy: bool = False) -> None:
        super().__init__(query_dim, key_dim)
        self.require_equal_dims()
        self.register_buffer("places", torch.arange(7.0), persistent=False)
        self.scale = float(self.places.numpy().sum() if by_numpy else self.places.sum())

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        return query @ keys.mT / self.scale


@pytest.mark.parametrize("by_numpy", [False, True])
def test_a_score_may_read_its_numbers_and_have_a_buffer_that_is_not_saved(tmp_path: Path, by_numpy: bool) -> None:
    run = tmp_path / "run"
    chosen = (
        "~score",
        f"+score._target_={__name__}.Looking",
        f"+score.by_numpy={by_numpy}",
        "training.max_steps=1",
    )
    command("train", *overrides(tmp_path), f"run={run}", *chosen)
    for checkpoint in ("best", "last"):
        score = load_run(run, checkpoint)[0].decoder.attention.score
        assert score.places.tolist() == [0, 1, 2, 3, 4, 5, 6] and score.scale == 21


def test_pretrained_vectors_start_their_words_and_no_others(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("ene 1 2 3 4 5 6\nMUH 6 5 4 3 2 1\nfremd 0 0 0 0 0 1\n", encoding="utf-8")
    models = []
    for name, more in (("random", []), ("given", [f"tokenizer.vectors={vectors}"])):
        settings = config(tmp_path, "model.tie=none", *more)
        prepared = prepare(settings)
        models.append(build_trainer(settings, prepared, Run(tmp_path / name)).model)
    tokenizer = prepared.tokenizers.src
    for word, vector in (("ene", [1.0, 2, 3, 4, 5, 6]), ("MUH", [6.0, 5, 4, 3, 2, 1])):
        (index,) = tokenizer.encode(word)
        for embedding in (models[1].src_embedding, models[1].tgt_embedding):
            assert embedding.weight[index].tolist() == vector
    (other,) = tokenizer.encode("raus")
    assert torch.equal(models[0].src_embedding.weight[other], models[1].src_embedding.weight[other])


def test_a_begun_run_needs_no_pretrained_vectors(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("ene 1 2 3 4 5 6\n", encoding="utf-8")
    settings = config(tmp_path, f"tokenizer.vectors={vectors}")
    prepared, run = prepare(settings), Run(tmp_path / "run")
    trainer = build_trainer(settings, prepared, run)
    save_state(run.checkpoints, trainer._state_dict())
    vectors.unlink()
    resumed = build_trainer(settings, prepared, run)
    assert torch.equal(resumed.model.tgt_embedding.weight, trainer.model.tgt_embedding.weight)


def test_fingerprints_of_different_runs_differ(tmp_path: Path) -> None:
    """They are of all weights but the score's, and of the batches."""
    write_corpus(tmp_path / "corpus")
    settings = config(tmp_path)
    trainer = build_trainer(settings, prepare(settings), Run(tmp_path / "run"))
    first = fingerprints(trainer.model, trainer.batches, b"")
    with torch.no_grad():
        next(trainer.model.decoder.attention.score.parameters()).add_(1)
        assert fingerprints(trainer.model, trainer.batches, b"") == first
        next(trainer.model.bridge.parameters()).add_(1)
    trainer.batches.seed += 1
    other = fingerprints(trainer.model, trainer.batches, b"")
    assert other["initial_weights"] != first["initial_weights"] and other["batches"] != first["batches"]
