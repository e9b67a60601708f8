"""A score from outside the package trains through the command line, as examples/custom_score/README.md shows."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
import torch
from helpers.models import EXAMPLE, ROOT, train_config
from helpers.runs import command, overrides, script, write_corpus
from omegaconf import OmegaConf

from heed.cli.train import train as train_run
from heed.config.components import component
from heed.model.contract import check_score
from heed.run.loading import load_run
from heed.run.untrusted import refuse_unknown_target
from heed.score import Dot, NoAttention, Score

WORDS = {"eins": "one", "zwei": "two", "drei": "three", "vier": "four", "fünf": "five"}


def train_as_told(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the example's own command line: its modules are found by PYTHONPATH alone."""
    return subprocess.run(
        [sys.executable, "scripts/train.py", *arguments],
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
    done = train_as_told(*chosen, *tiny, *quick, *where)
    assert done.returncode == 0, done.stderr
    assert "BLEU" in done.stdout
    metrics = json.loads((directory / "run/eval/test-greedy/metrics.json").read_text(encoding="utf-8"))
    assert 0 <= metrics["bleu"]["value"] <= 100
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
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8").replace(" \\\n    ", " ")
    command = "PYTHONPATH=examples/custom_score python scripts/train.py"
    assert f"{command} --config-dir examples/custom_score/configs score=mine\n" in readme
    assert f"{command} '~score' '+score._target_=my_scores.Distance' '+score.sharpness=2.0'\n" in readme


class Flat(Score):
    """Energies that fit any number of keys: by broadcasting they would be uniform attention."""

    def forward(self, query, keys):
        return query.sum(-1, keepdim=True)


def test_energies_of_another_shape_are_refused(tmp_path):
    flat = replace(train_config(), score={"_target_": f"{__name__}.Flat"})
    with pytest.raises(ValueError, match=r"Flat gives energies of shape \(2, 3, 1\).*must be \(2, 3, 5\)"):
        train_run(flat, tmp_path / "run")


class Diagonal(Dot):
    """Looks where the source is as far on as the target, of the lengths that the batch happens to have."""

    def forward(self, query, keys):
        far = (torch.linspace(0, 1, n) for n in (query.size(1), keys.size(1)))
        return super().forward(query, keys) - torch.cartesian_prod(*far).diff().square().view(query.size(1), -1)


class Sharpened(Dot):
    """Divides by what its sentences' energies have on average."""

    def forward(self, query, keys):
        energy = super().forward(query, keys)
        return energy / energy.abs().mean((0, 1), keepdim=True)


class Faint(Dot):
    """Energies of a thousandth, and a share of their neighbours."""

    def forward(self, query, keys):
        return super().forward(query, keys) * 1e-4 / keys.size(1)


class Weighed(Dot):
    """Weigh by a parameter that is yet to be learnt. An integer buffer is not learnt."""

    def __init__(self, query_dim, key_dim):
        super().__init__(query_dim, key_dim)
        self.calls = torch.nn.Parameter(torch.zeros(1, dtype=torch.long), requires_grad=False)
        self.weight = torch.nn.Parameter(torch.zeros(()))


class Silent(Sharpened, Weighed):
    """The same wrong energies, which are zero at first."""

    def forward(self, query, keys):
        return self.weight * super().forward(query, keys)


@pytest.mark.parametrize("score", [Diagonal, Sharpened, Faint, Silent])
def test_energies_that_depend_on_what_else_is_in_the_batch_are_refused(tmp_path, score):
    settings = replace(train_config(), score={"_target_": f"{__name__}.{score.__name__}"})
    with pytest.raises(ValueError, match=f"{score.__name__} gives a query and a key another energy if other"):
        train_run(settings, tmp_path / "run")


class Same(Dot):
    """The dictionary of docs/attention.md: true or false. Neither can be -∞."""

    def forward(self, query, keys):
        return (query.unsqueeze(2) == keys.unsqueeze(1)).all(-1)


class Undefined(Dot):
    def forward(self, query, keys):
        return super().forward(query, keys).abs().neg().sqrt()


class Closed(Dot):
    """Masks all positions of the first query."""

    def forward(self, query, keys):
        energy = super().forward(query, keys)
        energy[:, 0] = -inf
        return energy


class Listed(Dot):
    def forward(self, query, keys):
        return [query, keys]


class Turned(Dot):
    def prepare(self, states):
        return states.mT


class Paired(Dot):
    def prepare(self, states):
        return states, states


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (Same, r"Same gives energies of type torch.bool: it must be a tensor of floating-point numbers"),
        (Listed, r"Listed gives energies of type list"),
        (Undefined, "Undefined gives energies that are NaN"),
        (Closed, "an energy must be finite for at least one position"),
        (Turned, r"prepare of Turned gives \(2, \d+, 5\) for states of shape \(2, 5, \d+\)"),
        (Paired, r"prepare of Paired gives tuple"),
    ],
)
def test_what_is_no_energy_is_told_before_any_work(tmp_path, score, message):
    settings = replace(train_config(), score={"_target_": f"{__name__}.{score.__name__}"})
    with pytest.raises(ValueError, match=message):
        train_run(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Window(Dot):
    """Masks all positions but one."""

    def forward(self, query, keys):
        energy = super().forward(query, keys)
        energy[..., 1:] = -inf
        return energy


def test_only_the_control_without_attention_may_have_no_finite_energy():
    check_score(Window(7, 7))
    check_score(NoAttention(7, 7))
    with pytest.raises(ValueError, match="Closed gives a query the energy -∞ at all positions"):
        check_score(Closed(7, 7))


class Steep(Weighed):
    """Its weight may be negative alone."""

    def forward(self, query, keys):
        return super().forward(query, keys) * (1e-9 - self.weight).sqrt()


class SteepAndSharpened(Sharpened, Weighed):
    def forward(self, query, keys):
        return super().forward(query, keys) * (1e-9 - self.weight).sqrt()


def test_a_score_whose_zeros_may_not_be_positive_is_refused_only_for_what_it_does_without():
    check_score(Steep(7, 7))
    with pytest.raises(ValueError, match="SteepAndSharpened gives a query and a key another energy"):
        check_score(SteepAndSharpened(7, 7))


def test_a_run_is_of_the_code_that_its_score_had(tmp_path, monkeypatch, caplog):
    """Editing a score between two commands is what people do: the old one's run must not pass for the new one's."""
    code = "from heed.score import Dot\n\nclass Mine(Dot):\n    pass\n"
    (tmp_path / "mine_alone.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    write_corpus(tmp_path / "corpus")
    given = (*overrides(tmp_path), f"run={tmp_path / 'run'}", "training.max_epochs=1")
    given += ("~score", "+score._target_=mine_alone.Mine", "model.decoder_dim=10")
    command("train", *given)
    command("train", *given)  # the same: nothing to say
    (tmp_path / "mine_alone.py").write_text(code + "# and more\n")
    with pytest.raises(ValueError, match=r"mine_alone\.py has changed since"):
        command("train", *given)
    assert "mine_alone.py" not in caplog.text
    load_run(tmp_path / "run", "best")
    assert "mine_alone.py has changed since the run was trained" in caplog.text


def test_a_mistake_in_a_module_is_told_with_its_place(tmp_path, monkeypatch):
    (tmp_path / "broken_alone.py").write_text("x = 1\nBase = Scoore\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ValueError,
        match=r"cannot be imported: NameError: name 'Scoore' is not defined \(.*broken_alone\.py, line 2\)",
    ):
        component("score", {"_target_": "broken_alone.Mine"}, Score, query_dim=3, key_dim=5)


def test_a_target_deep_in_a_yaml_of_ones_own_is_trusted(tmp_path, monkeypatch):
    (tmp_path / "experiment" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "stranger").mkdir(parents=True)
    (tmp_path / "runs" / "stranger" / "config.yaml").write_text("score:\n  _target_: no_friend.Far\n")
    (tmp_path / "experiment" / "mine" / "far.yaml").write_text("score:\n  _target_: somewhere_else.Far\n")
    with pytest.raises(ValueError, match="neither heed's nor in your configs"):
        refuse_unknown_target("score", {"_target_": "somewhere_else.Far"}, {})
    monkeypatch.setattr("heed.run.untrusted.user_config_dirs", lambda: [tmp_path])
    refuse_unknown_target("score", {"_target_": "somewhere_else.Far"}, {})
    with pytest.raises(ValueError, match="neither heed's nor in your configs"):  # a run is no word of one's own
        refuse_unknown_target("score", {"_target_": "no_friend.Far"}, {})


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "no_such_module.Mine",
            r"cannot be imported: .* directory that holds no_such_module\.py on PYTHONPATH$",
        ),
        (
            "my_scores.Mine",
            r"score\._target_ is 'my_scores\.Mine', which cannot be imported: .*Are you sure that [^?]*\?$",
        ),
        ("heed.score.Score", r"score\._target_ is 'heed\.score\.Score', which does not define forward"),
        ("pathlib.Path", r"score\._target_ is 'pathlib\.Path': it must be a subclass of Score"),
    ],
)
def test_what_is_no_score_is_refused(target, message):
    with pytest.raises(ValueError, match=message):
        component("score", {"_target_": target}, Score, query_dim=3, key_dim=5)
