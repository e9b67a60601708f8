"""The training loop: what it computes, and that stopping it changes nothing."""

import copy
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import composed
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from helpers.runs import NAMES, ROOT, command, config, overrides, script, write_corpus
from torch.testing import assert_close

from heed.training.setup import build_trainer
from heed.config.components import build_corpus, build_tokenizer_settings
from heed.config.schema import TrainConfig, train_config
from heed.data.prepare import prepare
from heed.device import HAS_BF16, autocast, has_fast_bf16
from heed.run.directory import Run
from heed.training.signals import stopping_signals
from heed.text import BOS, EOS, PAD
from heed.run.checkpoints import load_state, load_weights, read_weights, save_state, save_weights, weight_files
from heed.ops.cross_entropy import cross_entropy
from heed.training.monitor import LAYOUT
from heed.training.optimization import Schedule
from heed.training.trainer import Trainer

TIMED = ("train/tokens_per_second",)  # the only metric that depends on the clock


def make(directory: Path, name: str, *more: str) -> Trainer:
    settings = config(directory, *more)
    return make_from(settings, directory, name)


def make_from(settings: TrainConfig, directory: Path, name: str) -> Trainer:
    prepared = prepare(
        build_corpus(settings.data), build_tokenizer_settings(settings.tokenizer), directory / "data", 50
    )
    run = Run(directory / name)
    run.claim(settings, prepared.directory)
    return build_trainer(settings, prepared, run)


def metrics(run: Path) -> list[dict[str, float]]:
    return [
        {key: value for key, value in measured.items() if key not in TIMED} for measured in Run(run).metrics()
    ]


def assert_same(one: Path, other: Path) -> None:
    """Two runs are equal bit for bit: everything that a checkpoint carries, the best weights, the metrics."""
    states = [load_state(run / "checkpoints") for run in (one, other)]
    assert_equal(*states)
    best = [(run / "checkpoints" / "best.safetensors").read_bytes() for run in (one, other)]
    assert best[0] == best[1]
    assert metrics(one) == metrics(other)
    assert metrics(one)


def assert_equal(one: object, other: object) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_equal(*pair)
    else:
        assert one == other


def train_until(trainer: Trainer, stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains, with a SIGTERM at the end of step `stop`."""
    update = trainer._update

    def interrupting(batches):  # type: ignore[no-untyped-def]
        update(batches)
        if trainer.step == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(trainer, "_update", interrupting)
    assert not trainer.train()
    trainer.monitor.close()


@pytest.mark.parametrize(
    "more",
    [
        [],
        pytest.param(
            ["training.schedule=plateau", "training.monitor=loss", "training.accumulate=2"],
            marks=pytest.mark.slow,
        ),
        [
            *("training.ema_decay=0", "decoder=bahdanau", "score=general", "training.optimizer=adamw"),
            *("training.r_drop=1", "model.word_dropout=0.1"),
        ],
    ],
)
def test_stop_anywhere_and_resume_is_never_stopped(tmp_path: Path, more: list[str], monkeypatch) -> None:
    whole = make(tmp_path, "whole", *more)
    assert whole.train()
    steps_per_epoch = whole.total_steps // 3
    anywhere = random.SystemRandom().randrange(2, whole.total_steps - 1)
    near_the_end = (whole.total_steps - 1, whole.total_steps)
    for stop in (1, steps_per_epoch - 1, steps_per_epoch + 2, *near_the_end, anywhere):
        name = f"stopped-{stop}"
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        trainer = make(tmp_path, name, *more)
        train_until(trainer, stop, monkeypatch)
        torch.manual_seed(stop)  # a fresh process would not continue this one's random numbers
        resumed = make(tmp_path, name, *more)
        assert resumed.step == stop
        assert resumed.train()
        resumed.monitor.close()
        assert_same(tmp_path / "whole", tmp_path / name)


@pytest.mark.parametrize(
    ("run", "precision", "compiled"),
    [
        (command, "fp32", "false"),
        # In processes of their own: the compiler would stumble over this suite's checks of shapes.
        pytest.param(script, "fp32", "true", marks=pytest.mark.slow),
        pytest.param(script, "bf16", "true", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_process_says_so_and_resumes_to_the_same_end(  # type: ignore[no-untyped-def]
    tmp_path: Path, run, precision: str, compiled: str
) -> None:
    more = ["training.save_every=4", "training.max_epochs=8"]
    more += [f"training.precision={precision}", f"training.compile={compiled}"]
    arguments = [*overrides(tmp_path), *more]
    run("train", *arguments, f"run={tmp_path / 'whole'}")
    words = [sys.executable, "scripts/train.py", *arguments, f"run={tmp_path / 'killed'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)
    while not (tmp_path / "killed" / "checkpoints" / "last.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(0.05)  # somewhere between two saves
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    stopped = load_state(tmp_path / "killed" / "checkpoints")
    whole = load_state(tmp_path / "whole" / "checkpoints")
    assert stopped is not None and whole is not None
    assert stopped["step"] < whole["step"], "the process was too fast for this test"
    assert process.returncode == 130
    assert "the same command goes on" in out
    run("train", *words[2:])
    assert_same(tmp_path / "whole", tmp_path / "killed")


def test_a_run_begun_on_a_cpu_goes_on_elsewhere(tmp_path: Path) -> None:
    trainer = make(tmp_path, "run")
    state = trainer._state_dict()
    assert state["random_cuda"] is None
    trainer.device = torch.device("cuda")  # of which only the random state is asked here
    trainer._load_state_dict(state)


def test_tensorboard_has_what_is_promised_and_no_step_twice(tmp_path: Path) -> None:
    arguments = [*overrides(tmp_path), f"run={tmp_path / 'run'}", "training.num_samples=2"]
    assert script("train", *arguments, "training.save_every=3").returncode == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"images": 0}).Reload()
    tags = events.Tags()
    for tag in [
        "train/loss",
        "train/perplexity",
        "train/learning_rate",
        "train/gradient_norm",
        "train/tokens_per_second",
        "val/loss",
        "val/perplexity",
        "val/bleu",
        *(f"val/attention_{name}" for name in LAYOUT["attention"]),
        "test/bleu",
        "test/chrf",
        "test/ter",
    ]:
        assert tag in tags["scalars"], tag
        steps = [event.step for event in events.Scalars(tag)]
        assert steps == sorted(set(steps)), tag
    assert {"alignment/1", "alignment/2"} <= set(tags["images"])
    assert "translations/text_summary" in tags["tensors"]
    assert "custom_scalars__config__" in tags["tensors"]
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= set(events.summary_metadata)
    entropy = [event.value for event in events.Scalars("val/attention_entropy")]
    assert all(0 <= value <= 1 for value in entropy)


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    trainer = make(tmp_path, "a", "model.dropout=0", "training.precision=fp32", "training.ema_decay=0")
    whole = make(
        tmp_path, "b", "model.dropout=0", "training.precision=fp32", "training.ema_decay=0",
        "training.batch_tokens=100000",
    )  # fmt: skip
    first = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer._update(list(trainer.batches.once()))
    whole._update(list(whole.batches.once()))
    for name, parameter in trainer.model.named_parameters():
        # Adam's first step is the sign of the gradient: compare the gradient's moments, not the parameters
        ours = trainer.optimizer.state[parameter]["exp_avg"]
        theirs = whole.optimizer.state[dict(whole.model.named_parameters())[name]]["exp_avg"]
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
        assert not torch.equal(first[name], parameter)


def test_two_passes_without_dropout_are_one(tmp_path: Path) -> None:
    more = ["model.dropout=0", "training.precision=fp32", "training.max_epochs=1"]
    one, two = make(tmp_path, "one", *more), make(tmp_path, "two", *more, "training.r_drop=5")
    assert one.train() and two.train()
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    losses = [
        [line["train/loss"] for line in metrics(tmp_path / name) if "train/loss" in line]
        for name in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)  # for each token, once


def test_two_passes_draw_dropout_twice_and_are_drawn_together(tmp_path: Path, monkeypatch) -> None:
    apart = {}
    for alpha in (0.0001, 30):
        trainer = make(
            tmp_path, f"run{alpha}", f"training.r_drop={alpha}", "training.learning_rate=0.02", "seed=2"
        )
        found: list[float] = []

        def measured(readouts, targets, output, *settings, found=found):  # type: ignore[no-untyped-def]
            log_p, log_q = output(readouts).detach().float().log_softmax(-1).unflatten(0, (-1, 2)).unbind(1)
            assert torch.equal(targets[::2], targets[1::2])
            found.append(float(((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean()))
            return cross_entropy(readouts, targets, output, *settings)

        monkeypatch.setattr("heed.training.trainer.cross_entropy", measured)
        assert trainer.train()
        apart[alpha] = sum(found[-20:]) / 20
    assert 0 < apart[30] < apart[0.0001] / 2


def test_average_follows_its_formula(tmp_path: Path) -> None:
    trainer = make(tmp_path, "run", "training.ema_decay=0.75")
    expected: dict[str, torch.Tensor] = {}
    stream = iter(trainer.batches)
    for step in range(31):  # (1 + 26) / (10 + 26) is 0.75
        trainer._update([next(stream)])
        for name, parameter in trainer.model.named_parameters():
            new = parameter.detach().clone()
            decay = min(0.75, (1 + step) / (10 + step))
            expected[name] = new if step == 0 else decay * expected[name] + (1 - decay) * new
    for name, parameter in trainer.best_model.named_parameters():
        torch.testing.assert_close(parameter, expected[name])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", lambda s: min(1, (s + 1) / 7)),
        ("inverse_sqrt", lambda s: (s + 1) / 7 if s < 7 else math.sqrt(7 / (s + 1))),
        ("cosine", lambda s: (s + 1) / 7 if s < 7 else 0.5 * (1 + math.cos(math.pi * (s - 7) / (31 - 7)))),
        ("plateau", lambda s: min(1, (s + 1) / 7)),
    ],
)
def test_schedule_follows_its_formula(tmp_path: Path, schedule: str, expected) -> None:  # type: ignore[no-untyped-def]
    settings = config(tmp_path, f"training.schedule={schedule}", "training.warmup_steps=7").training
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3.0)
    steps = Schedule(settings, optimizer, total_steps=31)
    for step in range(31):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(3 * expected(step)), step
        optimizer.step()
        steps.step()
    if schedule == "plateau":
        for _ in range(3):
            steps.validated(1.0)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(1.5)


def test_bad_steps_are_skipped_counted_and_end_the_run(tmp_path: Path, monkeypatch, caplog) -> None:
    trainer = make(tmp_path, "run", "training.max_bad_steps=3")
    stream = iter(trainer.batches)
    trainer._update([next(stream)])
    weights = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    real = trainer.model.encoder.forward
    monkeypatch.setattr(trainer.model.encoder, "forward", lambda *a: tuple(x * math.nan for x in real(*a)))
    trainer._update([next(stream)])
    trainer._update([next(stream)])
    assert (trainer.bad_steps, trainer.bad_in_a_row) == (2, 2)
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, weights[name])
    with pytest.raises(FloatingPointError, match=r"3 steps in a row.*learning_rate \(it is 0.002\)"):
        trainer._update([next(stream)])
    monkeypatch.undo()
    trainer._update([next(stream)])
    assert (trainer.bad_steps, trainer.bad_in_a_row) == (3, 0)
    assert "step 2 skipped: loss nan" in caplog.text


def test_weights_that_are_not_finite_are_not_kept_by_a_validation(tmp_path: Path, monkeypatch) -> None:
    trainer = make(tmp_path, "run", "training.keep=2", "training.monitor=bleu")
    with torch.no_grad():
        trainer.model.output.bias[3] = math.inf
    monkeypatch.setattr(trainer, "_update", lambda _: setattr(trainer, "step", trainer.validate_every))
    with pytest.raises(FloatingPointError, match="weights were not finite"):
        trainer.train()
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, monkeypatch) -> None:
    trainer = make(tmp_path, "run", "training.save_every=2")
    update = trainer._update

    def poisoned(batches):  # type: ignore[no-untyped-def]
        update(batches)
        if trainer.step == 6:
            with torch.no_grad():
                trainer.model.output.bias[3] = math.inf

    monkeypatch.setattr(trainer, "_update", poisoned)
    with pytest.raises(FloatingPointError, match=r"weights were not finite up to step 6; .*learning_rate"):
        trainer.train()
    trainer.monitor.close()
    resumed = make(tmp_path, "run", "training.save_every=2")
    assert resumed.step == 4 and resumed.train()
    resumed.monitor.close()
    whole = make(tmp_path, "whole", "training.save_every=2")
    assert whole.train()
    whole.monitor.close()
    assert_same(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_one_bad_step_is_passed_over(tmp_path: Path, monkeypatch, where: str, value: float) -> None:
    trainer = make(tmp_path, "run", "training.num_samples=0")
    backward = trainer._backward

    def poisoned(batches, tokens):  # type: ignore[no-untyped-def]
        nll = backward(batches, tokens)
        if trainer.step == 4 and where == "gradient":
            trainer.model.output.bias.grad[3] = value
        return nll * value if trainer.step == 4 and where == "loss" else nll

    monkeypatch.setattr(trainer, "_backward", poisoned)
    assert trainer.train()
    assert trainer.bad_steps == 1
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
    assert Run(tmp_path / "run").metrics()[-1]["step"] == trainer.step


def test_an_exploding_learning_rate_ends_in_words_or_goes_on(tmp_path: Path) -> None:
    for rate in ("1e4", "1e30", "1e38"):
        trainer = make(tmp_path, f"run{rate}", f"training.learning_rate={rate}", "training.warmup_steps=0",
                       "training.max_bad_steps=3", "training.num_samples=0", "training.save_every=1")  # fmt: skip
        try:
            assert trainer.train()
        except FloatingPointError as error:
            assert "Lower training.learning_rate" in str(error)
        trainer.monitor.close()
        state = load_state(tmp_path / f"run{rate}" / "checkpoints")
        for tensor in state["model"].values() if state else ():
            assert tensor.isfinite().all()
        assert rate != "1e38" or not trainer.finished


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")]
)
def test_a_batch_too_large_for_the_memory_is_done_in_parts(
    tmp_path: Path, monkeypatch, caplog, error
) -> None:  # type: ignore[no-untyped-def]
    more = ("model.dropout=0", "training.precision=fp32", "training.batch_tokens=150")
    small, large = make(tmp_path, "small", *more), make(tmp_path, "large", *more)
    forward, rows = small.model.forward, []

    def short_of_memory(src, *others):  # type: ignore[no-untyped-def]
        rows.append(len(src))
        if len(src) > 7:
            raise error
        return forward(src, *others)

    monkeypatch.setattr(small.model, "forward", short_of_memory)
    batch = max(small.batches.once(), key=lambda batch: len(batch.indices))
    assert len(batch.indices) > 14, "halves of halves"
    small._update([batch])
    large._update([batch])
    assert sum(n for n in rows if n <= 7) == len(batch.indices) and "done in parts (1 so far)" in caplog.text
    for one, other in zip(small.model.parameters(), large.model.parameters(), strict=True):
        ours, theirs = (t.optimizer.state[p]["exp_avg"] for t, p in ((small, one), (large, other)))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
    monkeypatch.setattr(small.model, "forward", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(type(error)):  # not even one row
        small._update([batch])


def test_patience_ends_the_run(tmp_path: Path) -> None:
    trainer = make(
        tmp_path, "run", "training.patience=2", "training.max_epochs=50", "training.learning_rate=0",
        "training.monitor=loss",
    )  # fmt: skip
    assert trainer.train()
    assert trainer.step == 3 * trainer.validate_every, "first is best, then two that are not better"


def test_keeps_as_many_as_asked(tmp_path: Path) -> None:
    trainer = make(tmp_path, "run", "training.keep=2", "training.max_epochs=4")
    trainer.train()
    kept = sorted(path.stem for path in (tmp_path / "run" / "checkpoints").glob("step-*"))
    assert kept == [f"step-{n * trainer.validate_every:08d}" for n in (3, 4)]


def test_without_attention_nothing_is_logged_of_where_it_looks(tmp_path: Path) -> None:
    logged = []
    for score in ("none", "uniform"):
        assert make(tmp_path, score, f"score={score}", "training.max_epochs=1").train()
        logged.append([line for line in Run(tmp_path / score).metrics() if "val/bleu" in line][-1])
    assert logged[1].keys() - logged[0].keys() == {"val/attention_entropy", "val/attention_monotonicity"}


@pytest.mark.parametrize("keep", [1, 2, 3, 5, 10])
def test_keeps_the_last_so_many_and_no_fewer(tmp_path: Path, keep: int) -> None:
    for step in range(13):
        save_weights(tmp_path, f"step-{step:08d}", torch.nn.Linear(3, 2), keep)
        kept = sorted(path.stem for path in tmp_path.iterdir())
        assert kept == [f"step-{n:08d}" for n in range(max(0, step + 1 - keep), step + 1)]


def test_the_average_is_the_mean_of_what_is_kept(tmp_path: Path) -> None:
    trainer = make(tmp_path, "run", "training.keep=2", "training.max_epochs=3")
    checkpoints = tmp_path / "run" / "checkpoints"
    with pytest.raises(ValueError, match=r"holds no kept checkpoints to average: train with training\.keep"):
        read_weights(checkpoints, "average")
    assert trainer.train()
    one, other = (read_weights(checkpoints, path.stem)[0] for path in sorted(checkpoints.glob("step-*")))
    average, file = read_weights(checkpoints, "average")
    assert average.keys() == one.keys() and file.stem == f"step-{trainer.total_steps:08d}"
    assert any(not torch.equal(one[name], other[name]) for name in one)
    for name, tensor in average.items():
        torch.testing.assert_close(tensor, (one[name] + other[name]) / 2)
    load_weights(trainer.model, average, file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=file.name):
        read_weights(checkpoints, "average")


def test_weights_of_unlike_models_have_no_average(tmp_path: Path) -> None:
    for step, sizes in (1, (3000, 1)), (2, (1, 3000)):
        save_weights(tmp_path, f"step-{step}", torch.nn.Linear(*sizes))
    with pytest.raises(ValueError, match=r"step-2\.safetensors is of another model than .*step-1"):
        read_weights(tmp_path, "average")


def test_stopped_and_resumed_in_a_sampled_epoch_is_never_stopped(tmp_path: Path, monkeypatch) -> None:
    more = [
        "tokenizer=sentencepiece",
        "subwords.vocab_size=290",
        "training.r_drop=2",
        "training.accumulate=2",
    ]
    more += ["training.subword_sampling=0.3", "model.word_dropout=0.1"]
    more += [override for override in overrides(tmp_path) if not override.startswith("tokenizer")]
    settings = train_config(composed("train", *more), NAMES)
    whole = make_from(settings, tmp_path, "whole")
    assert whole.train()
    threads = {thread.name for thread in threading.enumerate()}
    stop = whole.total_steps // 2 + 1
    trainer = make_from(settings, tmp_path, "stopped")
    train_until(trainer, stop, monkeypatch)
    resumed = make_from(settings, tmp_path, "stopped")
    assert resumed.train()
    resumed.monitor.close()
    assert_same(tmp_path / "whole", tmp_path / "stopped")
    assert not [name for name in threads if name.startswith("ThreadPoolExecutor")], (
        "one that made batches goes on"
    )


def test_damaged_state_falls_back_to_the_one_before(tmp_path: Path, caplog) -> None:
    for number in (1, 2):
        save_state(tmp_path, {"number": number, "weights": torch.ones(1000)})
    last = tmp_path / "last.safetensors"
    assert weight_files(tmp_path, "last") == [last]
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    state = load_state(tmp_path)
    assert state is not None and state["number"] == 1
    assert f"{last} is damaged" in caplog.text
    assert weight_files(tmp_path, "last") == [tmp_path / "previous.safetensors"]  # what an evaluation names
    (tmp_path / "previous.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of .*last.safetensors.*previous.safetensors"):
        load_state(tmp_path)


def test_full_disk_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    program = f"""
import resource, signal, torch
from pathlib import Path
from heed.training.checkpoint import save_state, save_weights
directory = Path({str(tmp_path)!r})
save_state(directory, {{"number": 1}})
save_weights(directory, "best", torch.nn.Linear(3, 2))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # a disk with room for 10 kB
for save in (
    lambda: save_state(directory, {{"number": 2, "weights": torch.ones(100_000)}}),
    lambda: save_weights(directory, "best", torch.nn.Linear(300, 200)),
):
    try:
        save()
    except Exception as error:
        print("failed:", type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.stdout.count("failed:") == 2, done.stderr
    state = load_state(tmp_path)
    assert state is not None and state["number"] == 1
    load_weights(torch.nn.Linear(3, 2), *read_weights(tmp_path, "best"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.safetensors", "last.safetensors"]


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save_weights(tmp_path, "best", torch.nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"best.safetensors is of another model: it differs in bias, weight"):
        load_weights(torch.nn.Linear(3, 5), *read_weights(tmp_path, "best"))
    shutil.copy(tmp_path / "best.safetensors", tmp_path / "previous.safetensors")
    for name in ("step-7", "previous", "../" + tmp_path.name + "/best"):
        with pytest.raises(ValueError, match=rf"{name}.safetensors: no such checkpoint; there is best"):
            read_weights(tmp_path, name)


def test_directory_of_another_configuration_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "run")
    run = Run(tmp_path / "run")
    run.check(config(tmp_path, "seed=3"))  # nothing trained yet, nothing to lose
    save_state(run.checkpoints, {"step": 1})
    run.check(
        config(tmp_path, "search.width=2", "device=cpu", "metrics.bootstrap=7")
    )  # nothing that training sees
    with pytest.raises(ValueError) as error:
        run.check(config(tmp_path, "seed=3", "training.learning_rate=0.5"))
    assert "seed: 1, 3" in str(error.value)
    assert "training.learning_rate: 0.002, 0.5" in str(error.value)
    assert str(error.value).count("\n  ") == 2


def test_updates_are_what_the_settings_say(tmp_path: Path) -> None:
    """Against a plain loop of torch's AdamW over a copy of the model."""
    exact = ("model.dropout=0", "training.precision=fp32", "training.ema_decay=0")
    optimizing = ("training.optimizer=adamw", "training.weight_decay=0.1", "training.betas=[0.5,0.7]")
    rate = ("training.learning_rate=0.01", "training.warmup_steps=0", "training.schedule=constant")
    loss = ("training.clip_norm=0.05", "training.label_smoothing=0.3")
    trainer = make(tmp_path, "run", *exact, *optimizing, *rate, *loss)
    twin = copy.deepcopy(trainer.model)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in twin.parameters() if p.dim() == 2], "weight_decay": 0.1},
            {"params": [p for p in twin.parameters() if p.dim() < 2], "weight_decay": 0.0},
        ],
        lr=0.01,
        betas=(0.5, 0.7),
    )
    for batch in list(trainer.batches.once())[:3]:
        real = batch.tgt_out != PAD
        optimizer.zero_grad()
        readouts, _ = twin(batch.src, batch.src_lengths, batch.tgt_in)
        logits = twin.output(readouts)[real]
        torch.nn.functional.cross_entropy(logits, batch.tgt_out[real], label_smoothing=0.3).backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.05)
        optimizer.step()
        trainer._update([batch])
    for ours, theirs in zip(trainer.model.parameters(), twin.parameters(), strict=True):
        assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
        moments = (trainer.optimizer.state[ours]["exp_avg"], optimizer.state[theirs]["exp_avg"])
        assert_close(*moments, rtol=1e-3, atol=1e-6)


def test_accumulation_and_the_number_of_steps_reach_the_loop(tmp_path: Path) -> None:
    trainer = make(tmp_path, "run", "training.accumulate=3", "training.max_steps=2")
    sizes, update = [], trainer._update
    trainer._update = lambda batches: sizes.append(len(batches)) or update(batches)
    assert trainer.train() and sizes == [3, 3]


def test_each_entry_of_the_log_is_of_the_steps_since_the_last(tmp_path: Path) -> None:
    trainer = make(tmp_path, "run", "training.log_every=2", "training.max_steps=6")
    losses, tokens, norms = [], [], []
    backward, clip = trainer._backward, torch.nn.utils.clip_grad_norm_

    def noted(batches: list, number: int) -> torch.Tensor:
        losses.append(float(nll := backward(batches, number)))
        tokens.append(number)
        return nll

    def clipped(*given: Any) -> torch.Tensor:
        norms.append(float(norm := clip(*given)))
        return norm

    trainer._backward = noted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heed.training.trainer.nn.utils.clip_grad_norm_", clipped)
        assert trainer.train()
    logged = [line for line in Run(tmp_path / "run").metrics() if "train/loss" in line]
    assert len(logged) == 3
    for n, line in zip((0, 2, 4), logged, strict=True):
        assert line["train/loss"] == pytest.approx(sum(losses[n : n + 2]) / sum(tokens[n : n + 2]))
        assert line["train/gradient_norm"] == pytest.approx(sum(norms[n : n + 2]) / 2)


def test_dropout_is_of_the_seed(tmp_path: Path) -> None:
    for seed in (1, 7):
        make(tmp_path, f"run{seed}", f"seed={seed}")
        assert torch.initial_seed() == seed


@pytest.mark.usefixtures("heard_signals")
def test_a_closed_terminal_stops_it_saved_and_its_log_is_there_before(tmp_path: Path) -> None:
    """A bar and a line on a terminal that is gone are errors, more than once."""
    run, log = tmp_path / "run", tmp_path / "log"
    given = [*overrides(tmp_path), f"run={run}", "training.max_epochs=100000"]
    terminal, its = os.openpty()
    with (
        open(log, "w") as out,
        subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / "train.py"), *given],
            stdout=out,
            stderr=its,
            start_new_session=True,
        ) as process,
    ):
        os.close(its)
        deadline = time.monotonic() + 120
        while "epoch 2: val" not in log.read_text():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        try:
            assert process.wait(60) == 130
        finally:
            process.kill()
    assert re.search(r"interrupted at step \d+ and saved", log.read_text())
    assert load_state(run / "checkpoints")["step"] == int(re.search(r"at step (\d+) and", log.read_text())[1])


@pytest.mark.usefixtures("heard_signals")
def test_under_nohup_a_closed_terminal_stops_nothing() -> None:
    assert signal.SIGHUP in stopping_signals()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert signal.SIGHUP not in stopping_signals()


@pytest.mark.parametrize("accumulate", [1, 3, 5])
def test_it_validates_once_per_epoch_however_many_batches_an_update_has(
    tmp_path: Path, accumulate: int, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make(tmp_path, "run", f"training.accumulate={accumulate}")
    assert len(trainer.batches) % 3 and len(trainer.batches) % 5
    assert trainer.train()
    epochs = re.findall(r"epoch (\d+): val", "".join(capsys.readouterr()))
    assert len(epochs) == 3 and epochs[-1] == "3"


def test_r_drop_without_dropout_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = (*overrides(tmp_path), f"run={tmp_path / 'run'}", "training.r_drop=1", "training.max_steps=1")
    command("train", *given, "model.dropout=0")
    assert "and there is none: it changes nothing and takes twice the time" in caplog.text


def test_what_else_lies_beside_the_events_is_left_alone(tmp_path: Path) -> None:
    trainer = make(tmp_path, "run", "training.max_epochs=1")
    (Run(tmp_path / "run").tensorboard / "plugins" / "profile").mkdir(parents=True)
    assert trainer.train()


def test_a_first_update_that_is_skipped_is_no_fault_of_the_schedule(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as warned:
        trainer = make(tmp_path, "run")
        with torch.no_grad():
            trainer.model.output.bias.fill_(torch.nan)
        trainer._update([next(iter(trainer.batches.once()))])
    assert trainer.bad_steps == 1 and not [one for one in warned if "lr_scheduler" in str(one.message)]


def test_what_does_not_fit_halfway_is_counted_once(tmp_path: Path, monkeypatch) -> None:
    """The memory ends in the second batch of an update, when the first one's gradients are there already."""
    exact = ("model.dropout=0", "training.precision=fp32", "training.batch_tokens=150")
    short, ample = make(tmp_path, "short", *exact), make(tmp_path, "ample", *exact)
    forward, calls = short.model.forward, []

    def fails_once(src: torch.Tensor, *others: torch.Tensor) -> object:
        calls.append(len(src))
        if len(calls) == 2:
            raise RuntimeError("can't allocate memory")
        return forward(src, *others)

    monkeypatch.setattr(short.model, "forward", fails_once)
    batches = list(short.batches.once())[-2:]
    for trainer in (short, ample):
        trainer._update(list(batches))
    for one, other in zip(short.model.parameters(), ample.model.parameters(), strict=True):
        moments = (short.optimizer.state[one]["exp_avg"], ample.optimizer.state[other]["exp_avg"])
        assert_close(*moments, rtol=1e-4, atol=1e-7)


def test_the_loss_is_that_of_a_token(tmp_path: Path) -> None:
    exact = ("model.dropout=0", "training.precision=fp32")
    trainer = make(tmp_path, "run", *exact, "training.log_every=1", "training.max_steps=1")
    batch = trainer.batches.collate(trainer.batches.plan(0)[0])
    real = batch.tgt_out != PAD
    readouts, _ = trainer.model(batch.src, batch.src_lengths, batch.tgt_in)
    expected = torch.nn.functional.cross_entropy(trainer.model.output(readouts)[real], batch.tgt_out[real])
    assert trainer.train()
    assert metrics(tmp_path / "run")[0]["train/loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_validation_is_of_the_validation_split(tmp_path: Path, monkeypatch) -> None:
    """The loss by hand, pair by pair, and what BLEU is asked."""
    asked: dict[str, object] = {}

    def bleu(hypotheses: object, references: object, **options: object) -> float:
        asked.update(options, references=references)
        return 1.0

    monkeypatch.setattr("heed.training.validation.bleu", bleu)
    trainer = make(
        tmp_path, "run", "training.precision=fp32", "metrics.tokenize=none", "metrics.lowercase=true"
    )
    found, _ = trainer.validate(trainer.model.train())
    sources, references = (
        (tmp_path / "corpus" / f"val.{side}").read_text().split("\n")[:-1] for side in ("de", "en")
    )
    assert list(asked.pop("references")) == references and asked == {"tokenize": "none", "lowercase": True}
    tokenizers, model = trainer.validate.tokenizers, trainer.model.eval().requires_grad_(False)
    nll, entropy, tokens = 0.0, 0.0, 0
    for source, reference in zip(sources, references, strict=True):
        src = torch.tensor([[*tokenizers.src.encode(source), EOS]])
        tgt = torch.tensor([[BOS, *tokenizers.tgt.encode(reference), EOS]])
        readouts, alignment = model(src, torch.tensor([src.size(1)]), tgt[:, :-1])
        nll += float(
            torch.nn.functional.cross_entropy(model.output(readouts)[0], tgt[0, 1:], reduction="sum")
        )
        entropy += float(-(alignment * alignment.log()).sum() / math.log(src.size(1)))
        tokens += tgt.size(1) - 1
    assert found["val/loss"] == pytest.approx(nll / tokens, rel=1e-5)
    assert found["val/attention_entropy"] == pytest.approx(entropy / tokens, rel=1e-4)


def test_long_validation_sentences_are_cut(tmp_path: Path, caplog) -> None:
    """A line of a megabyte, whose alignment would take 160 GB."""
    write_corpus(tmp_path / "corpus")
    for side, word in (("de", "muh "), ("en", "MUH ")):
        with open(tmp_path / "corpus" / f"val.{side}", "a") as file:
            file.write(word * 200_003 + "\n")
    trainer = make(tmp_path, "run")
    assert "2 validation sentences have more than 1024 pieces" in caplog.text
    *_, longest = trainer.validate.batches.once()
    assert longest.src.shape == longest.tgt_in.shape == (1, 200_004)
    found, _ = trainer.validate(trainer.model)
    assert math.isfinite(found["val/loss"])
    short = longest.cut(11)
    assert {tuple(one.shape) for one in (short.src, short.tgt_in, short.tgt_out)} == {(1, 11)}
    assert short.src_lengths.tolist() == short.tgt_lengths.tolist() == [11]


def test_validation_lets_a_translation_be_as_long_as_its_reference(tmp_path: Path) -> None:
    """From characters of Chinese to those of English that is more than the search's own limit, 2 S + 10."""
    corpus = write_corpus(tmp_path / "corpus")
    lengths = []
    for words in (9, 26):
        references = ["DU " * words] * 199 + ["DU " * 50]  # the last is a stray pair
        (corpus / "val.de").write_text("du\n" * 200)
        (corpus / "val.en").write_text("".join(f"{line.strip()}\n" for line in references))
        trainer = make(tmp_path, f"run{words}")
        with torch.no_grad():
            trainer.model.output.bias[EOS] = -1e4  # it never ends
        _, samples = trainer.validate(trainer.model)
        lengths.append(len(samples[0][2].pieces))
    assert lengths == [2 * 2 + 10, 9 * 2 + 10]  # 9 is the least ratio that 27 pieces need


def scripted(values: list[float], seen: list[torch.nn.Module]) -> Callable[[torch.nn.Module], object]:
    """A validation that finds these values, one after the other, as BLEU and as loss."""
    given = iter(values)

    def validate(model: torch.nn.Module) -> object:
        seen.append(copy.deepcopy(model))
        value = next(given)
        return {"val/loss": value, "val/bleu": value, "val/perplexity": 1.0}, []

    return validate


@pytest.mark.parametrize(
    ("monitor", "values", "best"), [("bleu", [1.0, 3.0, 2.0], 1), ("loss", [2.0, 3.0, 1.0], 2)]
)
def test_the_best_of_the_averaged_weights_are_kept(
    tmp_path: Path, monitor: str, values: list[float], best: int
) -> None:
    trainer = make(tmp_path, "run", f"training.monitor={monitor}", "training.ema_decay=0.9")
    seen: list[torch.nn.Module] = []
    trainer.validate = scripted(values, seen)
    assert trainer.train() and len(seen) == 3
    assert any(
        not torch.equal(*both) for both in zip(seen[-1].parameters(), trainer.model.parameters(), strict=True)
    ), "the average is another model"
    for name, expected in (("best", seen[best]), ("last", seen[-1])):
        weights, _ = read_weights(tmp_path / "run" / "checkpoints", name)
        for key, parameter in expected.named_parameters():
            assert torch.equal(weights[key], parameter), (name, key)


@pytest.mark.parametrize(("monitor", "better"), [("bleu", [1.0, 2.0, 3.0]), ("loss", [3.0, 2.0, 1.0])])
def test_a_plateau_halves_the_rate_in_training(tmp_path: Path, monitor: str, better: list[float]) -> None:
    for values, factor in ((better, 1), (better[::-1], 0.5)):
        trainer = make(tmp_path, f"run{factor}", "training.schedule=plateau", f"training.monitor={monitor}")
        trainer.validate = scripted(values, [])
        assert trainer.train()
        assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.002 * factor)


def test_sampled_pieces_reach_the_batches(tmp_path: Path) -> None:
    kept = [one for one in overrides(tmp_path) if not one.startswith("tokenizer")]
    sampling = ("tokenizer=sentencepiece", "subwords.vocab_size=290", "training.subword_sampling=0.01")
    settings = train_config(composed("train", *sampling, *kept), NAMES)
    batches = make_from(settings, tmp_path, "run").batches
    stored, drawn = list(map(batches.collate, batches.plan(0))), list(islice(batches, len(batches)))
    assert [one.indices.tolist() for one in stored] == [one.indices.tolist() for one in drawn]
    different = [
        not torch.equal(one.tgt_out, other.tgt_out) for one, other in zip(stored, drawn, strict=True)
    ]
    assert sum(different) > 5


def test_precision_is_what_is_asked_for() -> None:
    cpu, matrix = torch.device("cpu"), torch.ones(2, 2)
    for precision, on in (("bf16", True), ("fp32", False), ("auto", has_fast_bf16(cpu))):
        with autocast(precision, cpu)():
            assert (matrix @ matrix).dtype == (torch.bfloat16 if on else torch.float32)


@pytest.mark.skipif(not HAS_BF16, reason="needs oneDNN's products in bfloat16")
@pytest.mark.parametrize(
    ("name", "instructions", "fast"),
    [
        ("AMD EPYC 9R14", {"avx512_bf16"}, True),
        ("Intel(R) Xeon(R) Processor", {"avx512_bf16"}, False),
        ("Intel(R) Xeon(R) Processor", {"avx512_bf16", "amx_bf16"}, True),
        ("11th Gen Intel(R) Core(TM) i7-1185G7", {"avx512_f"}, False),
        ("AMD Ryzen 7 5800X", {"avx2"}, False),
        ("Neoverse-V1", {"bf16"}, True),
    ],
)
def test_auto_is_bf16_where_that_is_faster(
    name: str, instructions: set[str], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heed.device.cpu_name", lambda: name)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True))
    assert has_fast_bf16(torch.device("cpu")) == fast
