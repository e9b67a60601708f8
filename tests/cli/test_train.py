"""`train`: what it writes, what it refuses, and how it goes on."""

import gzip
import json
import shutil
import signal
from pathlib import Path

import pytest
from helpers.runs import Started, command, config, overrides, script, write_corpus
from hydra.errors import HydraException

from heed.alignment.store import load_alignments
from heed.cli.train import train
from heed.errors import UserError
from heed.run.directory import Run


def copied(run: Path, directory: Path) -> tuple[Path, list[str]]:
    """Return a copy of a run, and the command that continues it, on a copy of its corpus."""
    shutil.copytree(run, directory / "run")
    shutil.copytree(run.parent / "corpus", directory / "corpus")
    return directory / "run", [*overrides(directory), f"run={directory / 'run'}"]


def test_run_directory_is_laid_out_as_documented(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == [
        ".lock",
        "checkpoints",
        "config.yaml",
        "corpus.json",
        "eval",
        "metrics.jsonl",
        "tensorboard",
        "tokenizer.model",
        "training.json",
    ]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "best.safetensors",
        "last.safetensors",
        "previous.safetensors",
    ]
    metrics = json.loads((run / "eval" / "test-beam" / "metrics.json").read_text())
    assert {"value", "signature", "low", "high"} <= metrics["bleu"].keys()
    assert len(load_alignments(run / "eval" / "test-beam" / "alignments.npz")) == 5


def test_files_have_the_mode_of_other_files(run: Path) -> None:
    modes = {path.stat().st_mode for path in run.rglob("*") if path.is_file()}
    assert modes == {(run / "config.yaml").stat().st_mode}


def test_a_finished_run_is_only_evaluated_again_and_only_if_the_search_differs(run: Path, tmp_path: Path) -> None:
    copy, arguments = copied(run, tmp_path)
    state, metrics = copy / "checkpoints" / "last.safetensors", copy / "eval" / "test-beam" / "metrics.json"
    before = state.stat().st_mtime_ns, metrics.stat().st_mtime_ns
    command("train", *arguments)
    assert (state.stat().st_mtime_ns, metrics.stat().st_mtime_ns) == before
    command("train", *arguments, "search.width=2")
    assert state.stat().st_mtime_ns == before[0], "nothing was trained again"
    assert json.loads(metrics.read_text())["info"]["search"]["width"] == 2


def test_a_finished_run_keeps_the_arithmetic_that_it_was_trained_with(run: Path, tmp_path: Path) -> None:
    copy, _ = copied(run, tmp_path)
    gpu = [{"step": 0, "device": "some GPU", "precision": "bf16"}]
    Run(copy).add_record(arithmetic=gpu)
    train(Run(copy).config(), copy)
    assert Run(copy).record()["arithmetic"] == gpu


def test_a_run_continues_where_its_corpus_has_moved_to_and_logs_otherwise(run: Path, tmp_path: Path) -> None:
    copy, arguments = copied(run, tmp_path)
    command("train", *arguments)
    (tmp_path / "corpus").rename(tmp_path / "moved")
    with pytest.raises(UserError, match="corpus"):
        command("evaluate", f"run={copy}")
    arguments = [one.replace("/corpus", "/moved") for one in arguments if "log_every" not in one]
    command("train", *arguments, "training.log_every=2")
    bleu = json.loads((run / "eval" / "test-beam" / "metrics.json").read_text())["bleu"]
    assert command("evaluate", f"run={copy}")[1]["bleu"] == bleu


def test_a_run_whose_corpus_has_changed_is_refused_and_kept(run: Path, tmp_path: Path) -> None:
    copy, arguments = copied(run, tmp_path)
    command("train", *arguments)
    before = {path: path.read_bytes() for path in copy.glob("tokenizer*")}
    for side in ("de", "en"):
        with open(tmp_path / "corpus" / f"train.{side}", "a", encoding="utf-8") as file:
            file.write("neu\n")
    with pytest.raises(UserError, match=r"was trained on another corpus .*corpus\.json differs"):
        command("train", *arguments)
    assert before == {path: path.read_bytes() for path in copy.glob("tokenizer*")}
    command("evaluate", f"run={copy}")
    for side in ("de", "en"):
        with open(tmp_path / "corpus" / f"test.{side}", "a", encoding="utf-8") as file:
            file.write("neu\n")
    for name in ("evaluate", "align"):
        with pytest.raises(UserError, match=f"test is not what was held out when {copy}"):
            command(name, f"run={copy}")
    command("evaluate", f"run={copy}", "split=val")


@pytest.mark.parametrize("more", [[], ["training.json"]])
def test_trained_weights_without_a_training_state_are_not_overwritten(
    run: Path, tmp_path: Path, more: list[str]
) -> None:
    copy = tmp_path / "copy"
    (copy / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "corpus.json", "tokenizer.model", "checkpoints/best.safetensors", *more):
        shutil.copyfile(run / name, copy / name)
    before = (copy / "checkpoints" / "best.safetensors").stat().st_mtime_ns
    with pytest.raises(UserError, match=r"trained weights but no training state: .* Copy its checkpoints/last"):
        command("train", *overrides(run.parent), f"run={copy}")
    assert (copy / "checkpoints" / "best.safetensors").stat().st_mtime_ns == before
    shutil.copyfile(*(one / "checkpoints" / "last.safetensors" for one in (run, copy)))
    command("train", *overrides(run.parent), f"run={copy}")
    assert (copy / "checkpoints" / "best.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl"])
def test_files_of_another_program_are_not_overwritten(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / name).write_text("my: own\n")
    with pytest.raises(UserError, match=rf"mine/{name} is not heed's, .* name another directory"):
        command("train", *overrides(tmp_path), f"run={mine}")
    assert [path.read_text() for path in mine.iterdir()] == ["my: own\n"]


def test_temporary_files_of_an_interrupted_save_are_removed_and_no_others(run: Path, tmp_path: Path) -> None:
    copy, arguments = copied(run, tmp_path)
    for name in ("notes.tmp", "corpus.json.tmp"):
        (copy / name).touch()
    command("train", *arguments)
    assert [path.name for path in copy.glob("*.tmp")] == ["notes.tmp"]


@pytest.mark.parametrize("where", ["[a,b]", "{a: 1}"])
def test_a_run_is_one_directory(tmp_path: Path, where: str) -> None:
    done = script("train", *overrides(tmp_path), f"run={where}")
    assert done.returncode == 2 and "name one directory" in done.stderr


def test_a_run_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^/dev/null/run/\.lock cannot be written"):
        command("train", *overrides(tmp_path), "run=/dev/null/run")


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = [*overrides(tmp_path), "training.save_every=1", "training.max_epochs=10000", f"run={run}"]
    for stop in (signal.SIGKILL, signal.SIGTERM):  # neither leaves a lock behind
        with Started("train", *arguments) as first:
            lock = run / ".lock"
            while f"process {first.pid} " not in (lock.read_text() if lock.exists() else ""):
                assert first.poll() is None
            before = (run / "config.yaml").read_bytes() if stop == signal.SIGTERM else None
            with pytest.raises(UserError, match=f"{run} is being written by process {first.pid} on "):
                command("train", *arguments, "device=cpu")
            assert before is None or (run / "config.yaml").read_bytes() == before
            first.send_signal(stop)
            first.wait(60)


def test_files_of_unequal_length_are_named(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    with open(tmp_path / "corpus" / "train.en", "a", encoding="utf-8") as file:
        file.write("one more\n")
    with pytest.raises(UserError, match=r"train\.de has 60 lines but .*61"):
        command("train", *overrides(tmp_path), f"run={tmp_path / 'run'}")


def test_invalid_utf8_names_file_line_and_byte(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    path = tmp_path / "corpus" / "train.de"
    content = path.read_bytes()
    path.unlink()
    with gzip.open(tmp_path / "corpus" / "train.de.gz", "wb") as file:
        file.write(b"abc \xff def\n" + content[content.index(b"\n") + 1 :])
    with pytest.raises(UserError, match=r"train\.de\.gz: line 1 .*byte 4"):
        command("train", *overrides(tmp_path), f"run={tmp_path / 'run'}")


def test_empty_and_long_training_lines_are_dropped_and_counted_and_empty_test_lines_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    for name, lines in {
        "train.de": "\nene\n" + "mene " * 300 + "\n",
        "train.en": "MUH\n \n" + "MENE " * 300 + "\n",
        "test.de": "\n",
        "test.en": "MUH\n",
    }.items():
        with open(corpus / name, "a", encoding="utf-8") as file:
            file.write(lines)
    command("train", *overrides(tmp_path), f"run={tmp_path / 'run'}", "training.max_steps=1")
    assert "train: dropped 2 empty and 1 longer than 250 pieces, of 63 pairs" in caplog.text
    hypotheses = (tmp_path / "run" / "eval" / "test-beam" / "hypotheses.txt").read_text(encoding="utf-8")
    assert hypotheses.count("\n") == 6 and hypotheses.endswith("\n\n")


def test_r_drop_without_dropout_is_warned_of(run: Path, tmp_path: Path, caplog) -> None:
    from heed.cli.train import check_regularisation

    check_regularisation(config(run.parent, "training.r_drop=1", "model.dropout=0"), can_sample=False)
    assert "there is no dropout: it doubles the time and changes nothing" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score=nonsense"], "Available options in 'score':\n\tbahdanau\n\tconcat\n\tcontent"),
        (["training.learing_rate=1"], "learing_rate"),
        (["+training.learing_rate=1"], "learing_rate"),
        (["training.max_epochs=many"], "training.max_epochs"),
        (["model.cell=rnn"], "model.cell is 'rnn': choose one of gru, lstm"),
        (["+score.heads=8"], "score has no key heads: Bahdanau takes dim"),
        (["score.dim=wide"], "score.dim"),
        (["score._target_=collections.OrderedDict"], "must be a subclass of Score"),
        (["score._target_=nowhere.Mine"], "score._target_ is 'nowhere.Mine', which cannot be imported"),
        (
            ["score=dot", "model.decoder_dim=12"],
            "the query (decoder state) has size 12 and the key (encoder state) has size 10",
        ),
        (["data.source=/nowhere"], "/nowhere"),
        (["data=files", "data.source=null"], "data.source"),
        (["device=tpu"], "device is 'tpu'"),
        (["test_split=dev"], "there is no split 'dev'"),
        (["tokenizer.joint=false"], "model.tie=three"),
        (["training.subword_sampling=0.1"], "needs a tokenizer that can cut a text in more than one way"),
        (["training.precision=fp8"], "training.precision is 'fp8': choose one of auto, fp32, bf16"),
        (["seed=-1"], "seed is -1"),
        (["training.weight_decay=-0.1"], "training.weight_decay is -0.1: it must be at least 0"),
        (["score.dim=0"], "score.dim is 0: it must be at least 1"),
        (["+training.lr=1"], "training.lr: Key 'lr' not in 'TrainingSettings'; it has max_epochs, max_steps"),
        (["device=meta"], "device is 'meta'"),
        (["device=xpu"], "device is 'xpu'"),
        (
            ["metrics.bootstrap=null", "metrics.tokenize=null"],
            "give a value for metrics.tokenize, metrics.bootstrap",
        ),
        (
            ["data.test=x"],
            "data.test: it takes a list. Write one value in brackets too: data.test=[...]",
        ),
        (["training.betas=0.9"], "training.betas: it takes a list"),
        (["metrics.tokenize=ko-mecab"], "metrics.tokenize=ko-mecab: Korean tokenization requires extra"),
        (["+subwords.vocabsize=4000"], "vocabsize"),
        (["+names.data=mine"], "names: heed fills it"),
        (
            ["data.train=test"],
            "data.train=test, data.val=val, data.test=['test']: two splits have the same file",
        ),
    ],
)
def test_a_bad_configuration_is_refused_before_any_work(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises((UserError, HydraException)) as error:
        train(config(tmp_path, *arguments), str(tmp_path / "run"))
    assert message in str(error.value)
    assert not (tmp_path / "run").exists() and not (tmp_path / "data").exists()
