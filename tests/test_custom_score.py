"""A score from outside the package trains through the command line, as examples/custom_score/README.md shows."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from making import EXAMPLE, ROOT
from omegaconf import OmegaConf

from heed.component import component
from heed.score import Score

WORDS = {"eins": "one", "zwei": "two", "drei": "three", "vier": "four", "fünf": "five"}


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, f"scripts/{name}.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(EXAMPLE.relative_to(ROOT)), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def train(directory: Path, *chosen: str) -> dict:
    """The configuration of a run of two steps on a few dozen sentences."""
    rng = random.Random(0)
    for split, num in (("train", 41), ("val", 3), ("test", 2)):
        sentences = [rng.choices(list(WORDS), k=rng.randint(2, 5)) for _ in range(num)]
        src = "".join(" ".join(words) + "\n" for words in sentences)
        tgt = "".join(" ".join(WORDS[word] for word in words) + "\n" for words in sentences)
        (directory / f"{split}.de").write_text(src, encoding="utf-8")
        (directory / f"{split}.en").write_text(tgt, encoding="utf-8")
    tiny = ("training.max_steps=2", "model.embedding_dim=5", "model.encoder_dim=7", "model.decoder_dim=11")
    quick = (
        "tokenizer=char",
        "search=greedy",
        "metrics.bootstrap=0",
        "device=cpu",
        "training.precision=fp32",
    )
    where = (
        "data=files",
        f"data.source={directory}",
        f"data_dir={directory}/prepared",
        f"run={directory}/run",
    )
    done = script("train", *chosen, *tiny, *quick, *where)
    assert done.returncode == 0, done.stderr
    assert "BLEU" in done.stdout
    scores = json.loads((directory / "run/eval/test-greedy/scores.json").read_text(encoding="utf-8"))
    assert 0 <= scores["bleu"]["score"] <= 100
    return OmegaConf.to_container(OmegaConf.load(directory / "run/config.yaml"))


def test_by_its_yaml(tmp_path):
    path = "hydra.searchpath=[file://examples/custom_score/configs]"
    config = train(tmp_path, "--multirun", path, "score=mine")  # the report at its end looks at the score too
    assert list(json.loads((tmp_path / "compare" / "compare.json").read_text())["systems"]) == ["run"]
    assert config["score"] == {"_target_": "my_scores.Distance", "sharpness": 1.0}
    assert config["names"]["score"] == "mine"
    evaluation = ("evaluate", f"run={tmp_path / 'run'}", "search=greedy", "split=val", "metrics.bootstrap=0")
    refused = script(*evaluation)
    assert refused.returncode == 2 and "neither heed's nor in your configs/" in refused.stderr
    for mine in (("--config-dir", "examples/custom_score/configs"), (path,)):
        done = script(*evaluation, *mine)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_by_its_class(tmp_path):
    given = ("~score", "+score._target_=my_scores.Distance", "+score.sharpness=2.0")
    config = train(tmp_path, "--multirun", *given)  # the report at its end looks at the score too
    assert list(json.loads((tmp_path / "compare" / "compare.json").read_text())["systems"]) == ["run"]
    assert config["score"] == {"_target_": "my_scores.Distance", "sharpness": 2.0}
    assert config["names"]["score"] == "distance"


def test_the_readme_shows_these_commands():
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    command = "PYTHONPATH=examples/custom_score python scripts/train.py"
    assert f"{command} --config-dir examples/custom_score/configs score=mine\n" in readme
    assert f"{command} '~score' '+score._target_=my_scores.Distance' '+score.sharpness=2.0'\n" in readme


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module.Mine", r"score\._target_ is 'no_such_module\.Mine', which cannot be imported"),
        ("my_scores.Mine", r"score\._target_ is 'my_scores\.Mine', which cannot be imported"),
        ("pathlib.Path", r"score\._target_ is 'pathlib\.Path': it must be a subclass of Score"),
    ],
)
def test_what_is_no_score_is_refused(target, message):
    with pytest.raises(ValueError, match=message):
        component("score", {"_target_": target}, Score, query_dim=3, key_dim=5)


def test_a_key_that_it_does_not_take_or_of_the_wrong_type_is_refused():
    config = {"_target_": "my_scores.Distance", "sharpnes": 1.0}
    with pytest.raises(ValueError, match=r"score has no key sharpnes: Distance takes sharpness"):
        component("score", config, Score, query_dim=3, key_dim=5)
    config = {"_target_": "my_scores.Distance", "sharpness": "high"}
    with pytest.raises(ValueError, match="sharpness"):
        component("score", config, Score, query_dim=3, key_dim=5)
