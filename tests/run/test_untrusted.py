"""Untrusted runs and data: nothing in them is executed, and nothing is written outside of them.

Each test has an attack that works. It shows so first, and then gives the attack to heed,
in checksummed, well-formed files.
"""

import gzip
import os
import pickle
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers.runs import config, most_memory, quick
from omegaconf import OmegaConf
from requests import Request
from safetensors.torch import load_file, save_file

from heed.alignment.store import load_alignments
from heed.cli.prepare import prepare
from heed.cli.train import train
from heed.config.schema import EvaluateConfig, MetricSettings
from heed.data.lines import LONGEST_LINE, read_lines
from heed.data.multi30k import URL
from heed.errors import UserError
from heed.evaluation.evaluate import evaluate
from heed.files.checksums import FORMAT, PLACEHOLDER, add_checksum, read_json, write_json
from heed.files.names import file_name
from heed.run.checkpoints import load_state
from heed.run.directory import Run
from heed.run.loading import load_run
from heed.run.untrusted import refuse_links


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a corpus and a run of heed's own, `run`."""
    directory = tmp_path_factory.mktemp("trained")
    with quick():
        train(config(directory, "training.max_epochs=1"), directory / "run")
    return directory


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    """A copy of the run, for an attacker to change."""
    subprocess.run(["cp", "-r", trained / "run", tmp_path / "run"], check=True)
    return Run(tmp_path / "run")


class Payload:
    """Unpickled, makes a file."""

    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.proof),)


def works(proof: Path) -> None:
    """The attack did what it is for. Undo it, for heed to be attacked."""
    assert proof.exists()
    proof.rmdir()


def rewrite(run: Run, text: str) -> None:
    """Write a configuration with a right checksum, as an attacker would."""
    head = f"# heed's record of the run, not to be edited: format {FORMAT}, sha256 {PLACEHOLDER}\n"
    run.config_file.write_text(head + text, encoding="utf-8")
    add_checksum(run.config_file)


def changed(run: Run, **values: object) -> None:
    """Set values of the configuration, by keys with __ for each dot."""
    plain = OmegaConf.load(run.config_file)
    for key, value in values.items():
        OmegaConf.update(plain, key.replace("__", "."), value, force_add=True)
    rewrite(run, OmegaConf.to_yaml(plain))


def evaluate_run(run: Run, split: str = "test", search_name: str = "beam") -> None:
    settings = run.config()
    none = MetricSettings(None, None, None)
    asked = EvaluateConfig(str(run.path), "best", split, asdict(settings.search), none, "cpu")
    with quick():
        evaluate(asked, search_name)


def test_a_run_that_was_not_attacked_is_evaluated(run: Run) -> None:
    evaluate_run(run)
    changed(run, seed=2)
    assert run.config().seed == 2, "the tests' own checksums are right"


@pytest.mark.parametrize("name", ["best", "last", "previous", "fresh"])
def test_pickles_are_not_read(run: Run, tmp_path: Path, name: str) -> None:
    proof, path = tmp_path / "pwned", run.checkpoints / f"{name}.safetensors"
    for other in run.checkpoints.iterdir():
        other.unlink()
    torch.save({"weights": Payload(proof), "sha256": PLACEHOLDER}, tmp_path / "pickle")
    torch.load(tmp_path / "pickle", weights_only=False)
    works(proof)
    (tmp_path / "pickle").rename(path)
    for checksummed in (False, True):
        if checksummed:
            content = b'sha256: "' + PLACEHOLDER.encode() + b'"' + pickle.dumps(Payload(proof))
            path.write_bytes(content)
            add_checksum(path)
        for use in (lambda: load_run(run.path, name), lambda: load_state(run.checkpoints)):
            if name == "best" and use.__code__.co_names[0] == "load_state":
                continue
            with pytest.raises(UserError, match=r"damaged|can be read|no checkpoint|no such"):
                use()
    assert not proof.exists()


def test_yaml_makes_no_objects(run: Run, tmp_path: Path) -> None:
    proof = tmp_path / "pwned"
    text = f"score: !!python/object/apply:os.mkdir ['{proof}']\n"
    yaml.unsafe_load(text)
    works(proof)
    rewrite(run, text)
    with pytest.raises(UserError, match=r"config\.yaml: could not determine a constructor"):
        load_run(run.path, "best")
    assert not proof.exists()


def test_a_configuration_that_is_not_utf8_is_named(run: Run) -> None:
    content = run.config_file.read_bytes().replace(b"test_split: test", b"test_split: t\xe9st")
    digest = content.partition(b"sha256 ")[2][:64]
    run.config_file.write_bytes(content.replace(digest, PLACEHOLDER.encode()))
    add_checksum(run.config_file)
    with pytest.raises(UserError, match=r"config\.yaml: 'utf-8' codec"):
        run.config()


@pytest.mark.parametrize("group", ["score", "decoder", "tokenizer", "data"])
def test_the_module_of_a_target_is_not_imported(run: Run, tmp_path: Path, monkeypatch, group: str) -> None:
    proof = tmp_path / "pwned"
    (tmp_path / f"evil_{group}.py").write_text(
        f"import os\nfrom heed.score import Dot\nclass Evil(Dot): pass\nos.mkdir({str(proof)!r})\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    exec((tmp_path / f"evil_{group}.py").read_text(encoding="utf-8"), {"__name__": "evil"})
    works(proof)
    changed(run, **{f"{group}___target_": f"evil_{group}.Evil"})
    with pytest.raises(UserError, match=rf"{group}\._target_ is 'evil_{group}.Evil', which is neither heed's nor"):
        evaluate_run(run)
    assert not proof.exists() and f"evil_{group}" not in sys.modules


@pytest.mark.parametrize("target", ["os.system", "subprocess.Popen", "builtins.eval", "heed.data.store.StoreWriter"])
def test_a_target_of_another_kind_is_refused(run: Run, tmp_path: Path, target: str) -> None:
    plain = OmegaConf.load(run.config_file)
    plain.score = {"_target_": target, "args": f"mkdir {tmp_path / 'pwned'}", "path": str(tmp_path / "pwned")}
    rewrite(run, OmegaConf.to_yaml(plain))
    with pytest.raises(UserError, match=rf"score\._target_ is '{target}'"):
        evaluate_run(run)
    assert not list(tmp_path.glob("pwned*"))


def test_environment_variables_are_not_read(run: Run, monkeypatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    changed(run, test_split="X")
    text = run.config_file.read_text(encoding="utf-8").partition("\n")[2]
    text = text.replace("test_split: X", "test_split: ${oc.env:SECRET}")
    assert OmegaConf.create(text).test_split == "hunter2", "the attack works"
    rewrite(run, text)
    with pytest.raises(UserError, match=r"writes no \$") as error:
        evaluate_run(run)
    assert "hunter2" not in str(error.value)


def test_names_cannot_lead_out_of_the_run(run: Run, tmp_path: Path) -> None:
    outside = Path("../" * 12 + str(tmp_path / "pwned")[1:])  # of the root, from wherever
    assert (run.path / "eval" / outside).resolve() == tmp_path / "pwned", "the attack works"
    changed(run, data__test=[str(outside)], data__pattern="{split}.{lang}")
    for lang in ("de", "en"):
        (tmp_path / f"pwned.{lang}").write_text("ene mene\n", encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match="becomes part of a file name"):
        evaluate_run(run, str(outside))
    with pytest.raises(UserError, match="becomes part of a file name"):
        prepare(run.config())
    assert sorted(tmp_path.iterdir()) == before


def test_the_name_of_a_search_cannot_lead_out_of_the_run(run: Run, tmp_path: Path) -> None:
    outside = "x/../../../pwned"
    mine = tmp_path / "pwned" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("years of work", encoding="utf-8")
    (run.path / "eval" / "val-x").mkdir(parents=True)
    assert (run.path / "eval" / f"val-{outside}" / "thesis.txt").exists(), "the attack works"
    changed(run, names__search=outside)
    evaluate_run(run, "val", "trained")
    assert mine.exists()
    assert (run.path / "eval" / f"val-{file_name(outside)}" / "report.md").exists()
    plain = OmegaConf.load(run.config_file)
    del plain.names
    rewrite(run, OmegaConf.to_yaml(plain))
    evaluate_run(run, "val", "trained")
    assert (run.path / "eval" / "val-own" / "report.md").exists()


def test_a_corpus_is_downloaded_from_its_own_place_alone(run: Run, tmp_path: Path, monkeypatch) -> None:
    evil = "../../../../../../mallory/repo/main/{split}.{lang}"
    assert "/mallory/" in Request("GET", URL + evil).prepare().url.replace("multi30k", ""), "the attack works"
    monkeypatch.setattr("heed.data.multi30k.download", lambda *asked: pytest.fail(f"downloads {asked}"))
    changed(run, data___target_="heed.data.Multi30k", data__source=None, data__pattern=evil)
    with pytest.raises(UserError, match="becomes part of a file name"):
        evaluate_run(run, "val")


def test_layers_are_counted_before_they_are_made(run: Run) -> None:
    changed(run, model__encoder_layers=20_000)
    with pytest.raises(UserError, match="encoder_layers is 20000: it must be at least 1 and below 101"):
        evaluate_run(run)


def test_members_of_archives_are_not_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "in" / "data.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("../../pwned.tsv", "ene\tENE\n" * 50)
    with zipfile.ZipFile(archive) as packed:
        assert packed.namelist() == ["../../pwned.tsv"], "the attack works if names are joined to a path"
    before = sorted(tmp_path.rglob("*"))
    assert next(read_lines(archive, "../../pwned.tsv")) == "ene\tENE"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["eval", "checkpoints", "tensorboard", "align", "metrics.jsonl", "tokenizer.model"])
def test_links_out_of_the_run_are_refused(run: Run, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    there = run.path / name
    if there.exists():
        there.rename(outside)
    else:
        outside.mkdir()
    there.symlink_to(outside)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert there.resolve() == outside, "the attack works"
    settings = config(tmp_path)
    for use in (lambda: evaluate_run(run), lambda: run.check(settings), lambda: load_run(run.path, "best")):
        with pytest.raises(UserError, match=rf"{name} is a link out of the run"):
            use()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    there.unlink()
    there.symlink_to("elsewhere")  # within the run: as good as a name
    refuse_links(run.path)


def test_a_directory_that_vanishes_during_the_search_for_links_is_no_error(tmp_path: Path, monkeypatch) -> None:
    for name in ("one", "other"):
        (tmp_path / name / "inner").mkdir(parents=True)
    is_symlink = Path.is_symlink

    def meanwhile(path: Path) -> bool:
        """Remove the next directory, which is listed already, as another process may do."""
        if path.name == "inner":
            shutil.rmtree(tmp_path / {"one": "other", "other": "one"}[path.parent.name], ignore_errors=True)
        return is_symlink(path)

    monkeypatch.setattr(Path, "is_symlink", meanwhile)
    refuse_links(tmp_path)


def lines(path: Path) -> list[str]:
    return list(read_lines(path))


def test_packed_files_do_not_fill_the_memory(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "bomb.gz", "wb") as file:
        for _ in range(100):
            file.write(b"a" * (1 << 20))
    assert (tmp_path / "bomb.gz").stat().st_size < 1 << 20, "100 MiB in less than one: the payload works"
    taken, said = most_memory(lines, tmp_path / "bomb.gz")
    assert f"line 1, from byte 0, has over {LONGEST_LINE:,} bytes" in said
    assert taken < 64

    np.savez_compressed(tmp_path / "bomb.npz", weights=np.zeros(7, np.float32), shapes=np.array([[1, 7]]))
    assert len(load_alignments(tmp_path / "bomb.npz")) == 1
    with zipfile.ZipFile(tmp_path / "bomb.npz", "a") as packed:
        packed.writestr("more.npy", b"")
        packed.infolist()[-1].file_size = 5 << 30  # what 5 MiB of zeros, packed, could be
    taken, said = most_memory(load_alignments, tmp_path / "bomb.npz")
    assert "holds more than" in said and taken < 64


def test_a_configuration_does_not_fill_the_memory(run: Run) -> None:
    config = run.config()
    changed(run, model__decoder_dim=20_000, model__encoder_dim=10_000)
    taken, said = most_memory(load_run, run.path, "best")
    assert "is of another model" in said and taken < 300

    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
    rewrite(run, bomb)
    start = time.perf_counter()
    with pytest.raises(UserError, match="no aliases"):
        run.config()
    assert time.perf_counter() - start < 5
    deep = 100_000  # 5,000 take PyYAML 6.6 s, and it grows with the square
    rewrite(run, "a: " + "[" * deep + "]" * deep + "\n")
    with pytest.raises(UserError, match=r"config\.yaml: heed nests no deeper"):
        run.config()
    config.score["words"] = ["x" * 1000] * 300
    with pytest.raises(UserError, match=r"the configuration takes 30\d,\d+ bytes, more than 262,144"):
        run.claim(config, run.path)
    rewrite(run, "a: [" + "x, " * deep + "x]\n")
    with pytest.raises(UserError, match=r"config\.yaml has 300,\d+ bytes: heed wrote no such file"):
        run.config()


def test_checksummed_files_that_are_no_records(run: Run) -> None:
    for path, use in ((run.corpus_file, run.check_corpus), (run.record_file, run.record)):
        for content in (
            b'["%s"]',
            b'{"sha256": "%s"}',
            b'{"format": 1, "sha256": "%s", "x": ' + b"[" * 100_000 + b"}",
        ):
            path.write_bytes(content.replace(b"%s", PLACEHOLDER.encode()).replace(b'["', b'["sha256 '))
            add_checksum(path)
            with pytest.raises(UserError, match=path.name):
                use()
    write_json(run.corpus_file, {"files": ["tokenizer.model"]})
    with pytest.raises(UserError, match="does not name"):
        run.check_corpus()


def test_weights_of_another_shape_or_kind(run: Run) -> None:
    path = run.checkpoints / "best.safetensors"
    weights = load_file(path)
    save_file(weights, path, {"heed": f'{{"format": 1, "state": null, "sha256": "{PLACEHOLDER}"}}'})
    add_checksum(path)
    load_run(run.path, "best")
    for about in ('["sha256 %s"]', '{"sha256": "%s"}', '{"format": 2, "sha256": "%s", "state": null}'):
        save_file(weights, path, {"heed": about.replace("%s", PLACEHOLDER)})
        add_checksum(path)
        with pytest.raises(UserError, match=r"best.safetensors (is no checkpoint|has format 2)"):
            load_run(run.path, "best")


def test_a_newer_format_is_refused(run: Run) -> None:
    head, _, rest = run.config_file.read_text(encoding="utf-8").partition("\n")
    head = head[:-64].replace(f"format {FORMAT},", f"format {FORMAT + 1},")
    run.config_file.write_text(f"{head}{PLACEHOLDER}\n{rest}", encoding="utf-8")
    add_checksum(run.config_file)
    with pytest.raises(UserError, match=f"has format {FORMAT + 1}, but this version of heed reads {FORMAT}"):
        run.config()
    content = run.corpus_file.read_text(encoding="utf-8")
    digest = content.partition('"sha256": "')[2][:64]
    run.corpus_file.write_text(
        content.replace('"format": 1', '"format": 7').replace(digest, PLACEHOLDER), encoding="utf-8"
    )
    add_checksum(run.corpus_file)
    with pytest.raises(UserError, match=r"corpus\.json has format 7"):
        read_json(run.corpus_file)
