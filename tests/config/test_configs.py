"""Every YAML in configs/ composes, builds what it describes, and has all its keys, each with a comment."""

import inspect
import os
import re
import shutil
import subprocess
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.models import PRIMARY, ROOT, composed, train_config
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

import heed.config.schema
from heed.cli import scores
from heed.config.components import build_corpus, build_tokenizer_settings
from heed.config.model import build_model
from heed.config.schema import EvaluateConfig, ModelSettings, TrainingSettings, typed
from heed.data.multi30k import TOKENISED
from heed.search.settings import SearchSettings

CONFIGS = ROOT / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))
GIVEN = {  # what the builder passes, so that no YAML may
    "score": {"query_dim", "key_dim"},
    "decoder": {"attention", "embedding_dim", "hidden_dim", "dropout", "cell", "num_layers"},
    "data": set(),
    "tokenizer": set(),
}
SCHEMAS = {"model": ModelSettings, "training": TrainingSettings, "search": SearchSettings}
SIZES = ("model.embedding_dim=3", "model.encoder_dim=5", "model.encoder_layers=1", "model.decoder_dim=10")


def group(name: str) -> list[str]:
    """Return the names of the YAMLs in a group."""
    return sorted(path.stem for path in (CONFIGS / name).glob("*.yaml"))


def complete(primary: str, *overrides: str) -> DictConfig:
    """Compose a command's configuration, and name a run if one must be named."""
    if primary != "train":
        overrides = ("runs=some" if primary == "compare" else "run=runs/some", *overrides)
    config = composed(primary, *overrides)
    OmegaConf.set_struct(config, False)
    assert config.pop("fast") is True  # all commands take it out
    return config


def leaves(config: Any, key: str = "") -> dict[str, Any]:
    """Return the values by dotted key."""
    if not isinstance(config, dict):
        return {key: config}
    return {k: v for name in config for k, v in leaves(config[name], f"{key}.{name}" if key else name).items()}


def test_every_folder_is_tested_here() -> None:
    tested = {*GIVEN, *SCHEMAS, "experiment", "hydra"}
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} == tested
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {*PRIMARY, "plain"}


@pytest.mark.parametrize("primary", PRIMARY)
def test_primary_configs_are_typed_and_complete(primary: str) -> None:
    config = complete(primary)
    if primary == "train":
        train_config()
        assert config.pop("run", "absent") is None  # is not part of a run's configuration
        config.pop("subwords")  # only the tokenizer's keys refer to it
    else:
        typed(PRIMARY[primary], config)
    assert set(config) == {field.name for field in fields(PRIMARY[primary])} - {"names"}


@pytest.mark.parametrize("decoder", group("decoder"))
@pytest.mark.parametrize("score", group("score"))
def test_every_score_builds_in_every_wiring(score: str, decoder: str) -> None:
    config = train_config(f"score={score}", f"decoder={decoder}", *SIZES)
    model = build_model(config, (17, 17), joint=True)
    assert type(model.decoder) is get_class(config.decoder["_target_"])
    assert type(model.decoder.attention.score) is get_class(config.score["_target_"])


@pytest.mark.parametrize("data", group("data"))
def test_every_corpus_builds_with_the_values_of_its_yaml(data: str) -> None:
    config = train_config(f"data={data}").data
    corpus = build_corpus(config)
    assert {"_target_": config["_target_"], **vars(corpus)} == config
    assert corpus.splits()[:2] == ("train", "val")


@pytest.mark.parametrize("tokenizer", group("tokenizer"))
def test_every_tokenizer_builds_with_the_values_of_its_yaml(tokenizer: str) -> None:
    config = train_config("data=multi30k", f"tokenizer={tokenizer}").tokenizer
    assert {"_target_": config["_target_"], **vars(build_tokenizer_settings(config))} == config


@pytest.mark.parametrize(("name", "choice"), [(name, choice) for name in GIVEN for choice in group(name)])
def test_yaml_has_every_key_that_its_class_takes(name: str, choice: str) -> None:
    config = composed(f"{name}/{choice}")[name]
    takes = set(inspect.signature(get_class(config["_target_"])).parameters) - GIVEN[name]
    assert set(config) - {"_target_"} == takes


@pytest.mark.parametrize(("name", "choice"), [(name, choice) for name in SCHEMAS for choice in group(name)])
def test_yaml_has_every_key_of_its_schema(name: str, choice: str) -> None:
    config = composed(f"{name}/{choice}")[name]
    if choice != "trained":  # its values are the run's
        typed(SCHEMAS[name], config)
    assert list(config) == [field.name for field in fields(SCHEMAS[name])]


def test_search_defaults_in_code_are_those_of_the_yaml() -> None:
    assert SearchSettings() == train_config("search=beam").search
    assert SearchSettings(width=1) == train_config("search=greedy").search


def test_metrics_are_the_same_in_training_and_evaluation() -> None:
    of_evaluation = typed(EvaluateConfig, complete("evaluate")).metrics
    assert of_evaluation.over(train_config().metrics) == train_config().metrics
    changed = typed(EvaluateConfig, complete("evaluate", "metrics.tokenize=none")).metrics
    assert changed.over(train_config().metrics) == replace(train_config().metrics, tokenize="none")


def test_every_corpus_has_a_recipe() -> None:
    assert set(group("data")) <= set(group("experiment"))


@pytest.mark.parametrize("experiment", group("experiment"))
def test_every_recipe_sets_existing_keys_and_suits_every_score(experiment: str) -> None:
    data = experiment.partition("_")[0]
    config = composed("train", f"data={data}", f"experiment={experiment}")
    if data == experiment:
        assert config == composed("train", f"data={data}"), "the recipe comes by default"
    plain = leaves(OmegaConf.to_container(composed("train", f"data={data}", "~experiment")))
    recipe = OmegaConf.to_container(OmegaConf.load(CONFIGS / "experiment" / f"{experiment}.yaml"))
    recipe.pop("defaults", None)
    for key, value in leaves(recipe).items():
        assert OmegaConf.select(config, key) == value
        assert key in plain, f"{key} is no key of a shipped YAML"
    model = train_config(f"data={data}", f"experiment={experiment}").model
    assert model.decoder_dim == model.encoder_dim * (1 + model.bidirectional), "dot needs it"


def test_both_directions_of_multi30k_have_one_recipe() -> None:
    en_de, de_en = (train_config("data=multi30k", f"experiment=multi30k_{pair}") for pair in ("en_de", "de_en"))
    assert en_de.training == de_en.training and en_de.model == replace(de_en.model, embedding_dim=512, dropout=0.3)
    assert en_de.metrics.tokenize == "none" and de_en.metrics.tokenize == "13a"
    assert en_de.data["pattern"] == TOKENISED, "or its files are not downloaded"
    targets = [one.score["_target_"] for one in (en_de, de_en)]
    assert targets == ["heed.score.Bahdanau", "heed.score.Content"]


@pytest.mark.parametrize("pair", ["en_de", "de_en"])
def test_the_recipes_for_quality_leave_nothing_to_defaults(pair: str) -> None:
    """A change of a default of model, training or pieces must not change published results."""
    recipe = yaml.safe_load((CONFIGS / "experiment" / f"multi30k_{pair}.yaml").read_text())
    of_the_watcher = {"max_steps", "validate_every", "save_every", "keep", "log_every", "patience"}
    of_the_watcher |= {"max_bad_steps", "num_samples", "strict_resume"}
    assert list(recipe["model"]) == [field.name for field in fields(ModelSettings)]
    assert list(recipe["training"]) == [
        field.name for field in fields(TrainingSettings) if field.name not in of_the_watcher
    ]
    chosen = {key.removeprefix("override /") for one in recipe["defaults"] for key in one}
    assert chosen == {"score", "decoder", "tokenizer", "search"}
    assert set(recipe["subwords"]) == set(composed("train").subwords)


def test_make_leaves_a_recipe_its_choice_of_score_and_wiring() -> None:
    for arguments, chosen in (
        ([], []),
        (["SCORE=dot", "DECODER=bahdanau"], ["score=dot", "decoder=bahdanau"]),
    ):
        shown = subprocess.run(
            ["make", "-n", "train", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
        words = shown.stdout.split("scripts/train.py")[1].split()
        assert [word for word in words if word.startswith(("score=", "decoder="))] == chosen


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["train", "score=dot"], "make train takes no score"),
        (["train", "SCORES=dot"], "make train takes no SCORES"),
        (["compare", "SCORES=dot", "SEED=4"], "make compare takes no SEED"),
        (["evaluate", "RUN=runs/grün = 1"], """scripts/evaluate.py 'run="runs/grün = 1"'"""),
        (["translate", "RUN=[runs/a, runs/b]"], "scripts/translate.py 'run=[runs/a, runs/b]'"),
        (["compare", "RUNS=runs/a", "SCORES=dot", "DATA=tsv"], "make compare RUNS=... takes no SCORES"),
        (["compare", "RUNS=runs/a", "DATA=tsv"], "make compare RUNS=... takes no DATA"),
        (["compare", "RUNS=runs/a runs/b*"], """scripts/compare.py 'runs="runs/a runs/b*"'"""),
    ],
)
def test_make_refuses_variables_without_effect_and_quotes_paths(arguments, shown) -> None:
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert shown in done.stdout + done.stderr


def test_scores_are_listed_although_one_cannot_be_made(tmp_path, monkeypatch, capsys) -> None:
    shutil.copytree(CONFIGS / "score", tmp_path / "score")
    (tmp_path / "score" / "away.yaml").write_text("_target_: not_there.Score\n")
    (tmp_path / "score" / "broken.yaml").write_text("{\n")
    (tmp_path / "score" / "narrow.yaml").write_text("defaults: [bahdanau, _self_]\ndim: 7\n")
    monkeypatch.setattr(scores, "CONFIGS", tmp_path)
    scores.list_scores()
    shown = capsys.readouterr().out
    assert "away        cannot be made: score._target_ is 'not_there.Score'" in shown
    assert "broken      cannot be made: " in shown and "concat      the same as bahdanau\n" in shown
    assert "v_a 7, W_a.weight 7×512" in shown and "uniform     0\n" in shown


def test_runs_of_a_comparison_can_go_to_slurm() -> None:
    config = composed("train", "hydra/launcher=slurm", return_hydra_config=True)
    assert config.hydra.launcher._target_.endswith("SlurmLauncher")
    assert config.hydra.launcher.timeout_min == 240


@pytest.mark.parametrize("tokenizer", group("tokenizer"))
@pytest.mark.parametrize("data", group("data"))
def test_every_tokenizer_goes_with_every_corpus(data: str, tokenizer: str) -> None:
    build_tokenizer_settings(train_config(f"data={data}", f"tokenizer={tokenizer}").tokenizer)


@pytest.mark.parametrize("name", [*GIVEN, *SCHEMAS, "metrics", "subwords"])
def test_no_group_ignores_a_key(name: str) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        config = train_config(f"+{name}.nonsense=1", *SIZES)
        build_corpus(config.data)
        build_tokenizer_settings(config.tokenizer)
        build_model(config, (17, 17), joint=True)


@pytest.mark.parametrize("primary", PRIMARY)
def test_no_script_ignores_a_key(primary: str) -> None:
    config = complete(primary, "+nonsense=1")
    with pytest.raises(ValueError, match="nonsense"):
        if primary == "train":
            heed.config.schema.train_config(config, {})
        typed(PRIMARY[primary], config)


def keys(node: yaml.Node) -> list[tuple[str, int]]:
    """Return every key that has a value, and its line. Headings above other keys have none."""
    found: list[tuple[str, int]] = []
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            found += keys(item)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value != "defaults" and not isinstance(value, yaml.MappingNode):
                found.append((key.value, key.start_mark.line))
            found += keys(value)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_key_has_a_comment(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines[0].startswith("# "), "a YAML begins with what it is"
    if lines[0] == "# @package _global_":  # sets keys that are explained where they are defined
        assert lines[1].startswith("# ")
        return
    for key, line in keys(yaml.compose("\n".join(lines))):
        above = lines[line - 1].startswith("# ") and (line > 1 or key == "_target_")  # line 0 is of the file
        explained = re.search(r"\S +# \S", lines[line]) or above
        assert explained or key.startswith("override "), f"{path}:{line + 1}: {key} has no comment"
