"""The training loop: what an update computes, and what the settings of training do."""

import copy
import math
import warnings
from itertools import islice
from pathlib import Path

import pytest
import torch
from helpers.runs import config
from helpers.training import make, make_from, metrics, scripted
from torch.testing import assert_close

from heed.errors import DivergedError, UserError
from heed.ops.cross_entropy import cross_entropy
from heed.run.checkpoints import load_state, load_weights, read_weights
from heed.run.directory import Run
from heed.text import PAD
from heed.training.optimization import Schedule


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    trainer = make(tmp_path, "a", "model.dropout=0", "training.precision=fp32", "training.ema_decay=0")
    whole = make(
        tmp_path, "b", "model.dropout=0", "training.precision=fp32", "training.ema_decay=0",
        "training.batch_tokens=100000",
    )  # fmt: skip
    first = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.update(list(trainer.batches.once()))
    whole.update(list(whole.batches.once()))
    for name, parameter in trainer.model.named_parameters():
        # Adam's first step is the sign of the gradient: compare the gradient's moments, not the parameters
        ours = trainer.optimizer.state[parameter]["exp_avg"]
        theirs = whole.optimizer.state[dict(whole.model.named_parameters())[name]]["exp_avg"]
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
        assert not torch.equal(first[name], parameter)


def test_two_passes_without_dropout_are_one(tmp_path: Path) -> None:
    more = ["model.dropout=0", "training.precision=fp32", "training.max_epochs=1"]
    one, two = make(tmp_path, "one", *more), make(tmp_path, "two", *more, "training.r_drop=5")
    one.validator = two.validator = scripted([1.0])
    assert one.train() and two.train()
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    losses = [
        [line["train/loss"] for line in metrics(tmp_path / name) if "train/loss" in line] for name in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)  # for each token, once


def test_two_passes_draw_dropout_twice_and_are_drawn_together(tmp_path: Path, monkeypatch) -> None:
    apart = {}
    for alpha in (0.0001, 30):
        trainer = make(tmp_path, f"run{alpha}", f"training.r_drop={alpha}", "training.learning_rate=0.02", "seed=2")
        trainer.validator = scripted([1.0])
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
        trainer.update([next(stream)])
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
    trainer.update([next(stream)])
    weights = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    real = trainer.model.encoder.forward
    monkeypatch.setattr(trainer.model.encoder, "forward", lambda *a: tuple(x * math.nan for x in real(*a)))
    trainer.update([next(stream)])
    trainer.update([next(stream)])
    assert (trainer.bad_steps, trainer.bad_in_a_row) == (2, 2)
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, weights[name])
    with pytest.raises(DivergedError, match=r"3 steps in a row.*learning_rate \(it is 0.002\)"):
        trainer.update([next(stream)])
    monkeypatch.undo()
    trainer.update([next(stream)])
    assert (trainer.bad_steps, trainer.bad_in_a_row) == (3, 0)
    assert "step 2 skipped: loss nan" in caplog.text


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_one_bad_step_is_passed_over(tmp_path: Path, monkeypatch, where: str, value: float) -> None:
    trainer = make(tmp_path, "run", "training.max_steps=6")
    trainer.validator = scripted([1.0])
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


def test_an_exploding_learning_rate_ends_with_advice_or_training_continues(tmp_path: Path) -> None:
    more = ("training.warmup_steps=0", "training.max_bad_steps=3", "training.save_every=1")
    for rate in ("1e4", "1e30", "1e38"):
        trainer = make(tmp_path, f"run{rate}", f"training.learning_rate={rate}", *more, "training.max_epochs=1")
        try:
            assert trainer.train()
        except DivergedError as error:
            assert "Lower training.learning_rate" in str(error)
        trainer.monitor.close()
        state = load_state(tmp_path / f"run{rate}" / "checkpoints")
        for tensor in state["model"].values() if state else ():
            assert tensor.isfinite().all()
        assert rate != "1e38" or not trainer.finished


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")])
def test_a_batch_too_large_for_the_memory_is_done_in_parts(tmp_path: Path, monkeypatch, caplog, error) -> None:  # type: ignore[no-untyped-def]
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
    small.update([batch])
    large.update([batch])
    assert sum(n for n in rows if n <= 7) == len(batch.indices) and "done in parts (1 so far)" in caplog.text
    for one, other in zip(small.model.parameters(), large.model.parameters(), strict=True):
        ours, theirs = (t.optimizer.state[p]["exp_avg"] for t, p in ((small, one), (large, other)))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
    monkeypatch.setattr(small.model, "forward", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(type(error)):  # not even one row
        small.update([batch])


def test_keeps_as_many_as_asked(tmp_path: Path) -> None:
    trainer = make(tmp_path, "run", "training.keep=2", "training.validate_every=2", "training.max_steps=8")
    trainer.validator = scripted([1.0])
    trainer.train()
    kept = sorted(path.stem for path in (tmp_path / "run" / "checkpoints").glob("step-*"))
    assert kept == ["step-00000006", "step-00000008"]


def test_the_average_is_the_mean_of_what_is_kept(tmp_path: Path) -> None:
    trainer = make(tmp_path, "run", "training.keep=2", "training.validate_every=2", "training.max_steps=6")
    trainer.validator = scripted([1.0])
    checkpoints = tmp_path / "run" / "checkpoints"
    with pytest.raises(UserError, match=r"holds no kept checkpoints to average: train with training\.keep"):
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
    with pytest.raises(UserError, match=file.name):
        read_weights(checkpoints, "average")


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
        trainer.update([batch])
    for ours, theirs in zip(trainer.model.parameters(), twin.parameters(), strict=True):
        assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
        moments = (trainer.optimizer.state[ours]["exp_avg"], optimizer.state[theirs]["exp_avg"])
        assert_close(*moments, rtol=1e-3, atol=1e-6)


def test_accumulation_and_the_number_of_steps_reach_the_loop(tmp_path: Path) -> None:
    trainer = make(tmp_path, "run", "training.accumulate=3", "training.max_steps=2")
    trainer.validator = scripted([1.0])
    sizes, update = [], trainer.update
    trainer.update = lambda batches: sizes.append(len(batches)) or update(batches)
    assert trainer.train() and sizes == [3, 3]


def test_the_seed_sets_dropout(tmp_path: Path) -> None:
    for seed in (1, 7):
        make(tmp_path, f"run{seed}", f"seed={seed}")
        assert torch.initial_seed() == seed


def test_a_skipped_first_update_causes_no_warning_about_the_schedule(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as warned:
        trainer = make(tmp_path, "run")
        with torch.no_grad():
            trainer.model.output.bias.fill_(torch.nan)
        trainer.update([next(iter(trainer.batches.once()))])
    assert trainer.bad_steps == 1 and not [one for one in warned if "lr_scheduler" in str(one.message)]


def test_a_batch_that_runs_out_of_memory_halfway_is_counted_once(tmp_path: Path, monkeypatch) -> None:
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
        trainer.update(list(batches))
    for one, other in zip(short.model.parameters(), ample.model.parameters(), strict=True):
        moments = (short.optimizer.state[one]["exp_avg"], ample.optimizer.state[other]["exp_avg"])
        assert_close(*moments, rtol=1e-4, atol=1e-7)


def test_the_loss_is_per_token(tmp_path: Path) -> None:
    exact = ("model.dropout=0", "training.precision=fp32")
    trainer = make(tmp_path, "run", *exact, "training.log_every=1", "training.max_steps=1")
    trainer.validator = scripted([1.0])
    batch = trainer.batches.collate(trainer.batches.plan(0)[0])
    real = batch.tgt_out != PAD
    readouts, _ = trainer.model(batch.src, batch.src_lengths, batch.tgt_in)
    expected = torch.nn.functional.cross_entropy(trainer.model.output(readouts)[real], batch.tgt_out[real])
    assert trainer.train()
    assert metrics(tmp_path / "run")[0]["train/loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_sampled_pieces_reach_the_batches(tmp_path: Path) -> None:
    sampling = ("tokenizer=sentencepiece", "subwords.vocab_size=290", "training.subword_sampling=0.01")
    batches = make_from(config(tmp_path, *sampling, without="tokenizer"), tmp_path, "run").batches
    stored, drawn = list(map(batches.collate, batches.plan(0))), list(islice(batches, len(batches)))
    assert [one.indices.tolist() for one in stored] == [one.indices.tolist() for one in drawn]
    different = [not torch.equal(one.tgt_out, other.tgt_out) for one, other in zip(stored, drawn, strict=True)]
    assert sum(different) > 5
