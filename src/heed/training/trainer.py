"""The training loop."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import islice
from math import isfinite, nan
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from heed import fast
from heed.config import TrainingSettings
from heed.data.batches import Batch, Batches
from heed.device import out_of_memory
from heed.evaluation.metrics import perplexity
from heed.model import Seq2Seq
from heed.run import Run
from heed.signals import interruptible
from heed.text import PAD
from heed.training.checkpoint import load_state, save_state, save_weights, settle
from heed.training.loss import cross_entropy
from heed.training.monitor import Monitor
from heed.training.optimization import Schedule, make_average, make_optimizer
from heed.training.validation import Validator

log = logging.getLogger(__name__)

CARRIED = ("step", "best", "validations_since_best", "bad_steps", "bad_in_a_row", "window", "window_steps")
"""Attributes of the trainer that a checkpoint carries as they are, besides the states of its parts."""


class Trainer:
    """Trains a model in a run directory. Stopped at any point and made again there, it goes on as if never stopped."""

    def __init__(
        self,
        model: Seq2Seq,
        batches: Batches,
        validate: Validator,
        settings: TrainingSettings,
        run: Run,
        seed: int,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Takes up the state that the run's last checkpoint holds, if any."""
        self.model, self.batches, self.validate = model.to(device), batches, validate
        self.settings, self.run, self.device, self.autocast = settings, run, device, autocast
        epochs = -(-settings.max_epochs * len(batches) // settings.accumulate)
        self.total_steps = min(settings.max_steps or epochs, epochs)
        self.validate_every = settings.validate_every or -(-len(batches) // settings.accumulate)
        self.optimizer = make_optimizer(settings, model)
        self.schedule = Schedule(settings, self.optimizer, self.total_steps)
        self.average = make_average(settings, model)
        self.compile = settings.compile
        if settings.compile and (missing := fast.missing_for_compiling()):
            log.warning(
                "training.compile=true needs %s, which is not here: training goes on without, slower", missing
            )
            self.compile = False
        # Here alone: a directory that vanishes in training is not to come back as half a run.
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        self.step = 0
        self.best: float | None = None
        self.validations_since_best = 0
        self.bad_steps, self.bad_in_a_row = 0, 0
        self.window = torch.zeros(3, dtype=torch.float64)  # since the last log: nll, tokens, gradient norms
        self.window_steps = 0
        self.timed_tokens = 0  # since the last log, of this process alone
        self.split_batches = 0  # likewise, since the start
        torch.manual_seed(seed)  # dropout
        settle(run.checkpoints)
        state = load_state(run.checkpoints)
        if state is not None:
            self._load_state_dict(state)
        self.monitor = Monitor(run, self.step, state["lines"] if state else 0)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        patience = self.settings.patience
        return self.step >= self.total_steps or (
            patience is not None and self.validations_since_best >= patience
        )

    @property
    def best_model(self) -> nn.Module:
        """What is evaluated and kept: the averaged weights, where they are averaged."""
        return self.average.module if self.average else self.model

    def train(self) -> bool:
        """Trains to the end and returns True; or to SIGINT, SIGTERM or SIGHUP, saves, and returns False.

        The latter also where that was the last step: what comes after training is for the next command.

        `FloatingPointError` after `max_bad_steps` steps in a row with a loss or gradient that is not finite.
        """
        settings = self.settings
        stream = iter(self.batches)
        bar = tqdm(total=self.total_steps, initial=self.step, unit="step", disable=None, dynamic_ncols=True)
        clock = time.perf_counter()
        stopping = False
        with interruptible() as interrupted, bar:
            while not self.finished and not stopping:
                self._update(list(islice(stream, settings.accumulate)))
                stopping = interrupted()
                bar.disable = bar.disable or stopping  # a terminal that was closed takes nothing more
                bar.update()
                if self.step % settings.log_every == 0:
                    now = time.perf_counter()
                    metrics = self._log(now - clock)
                    clock = now
                    bar.set_postfix_str(
                        f"loss {metrics.get('train/loss', nan):.3f}, ppl {metrics.get('train/perplexity', nan):.2f}, "
                        f"{metrics['train/tokens_per_second']:,.0f} tokens/s"
                    )
                validated = self.step % self.validate_every == 0 or self.step == self.total_steps
                saving = validated or bool(settings.save_every and self.step % settings.save_every == 0)
                if saving or stopping:
                    self._refuse_weights_not_finite()
                if validated:
                    paused = time.perf_counter()
                    metrics = self._validate()
                    clock += time.perf_counter() - paused
                    stopping = stopping or interrupted()
                if saving or stopping:
                    self.monitor.flush()
                    save_state(self.run.checkpoints, self._state_dict())
                if validated:  # told last: who reads may have gone
                    # The last of accumulated updates may end a batch later.
                    epoch = min(self.batches.epoch + 1, settings.max_epochs)
                    bar.write(
                        f"step {self.step}, epoch {epoch}: val loss {metrics['val/loss']:.3f}, "
                        f"ppl {metrics['val/perplexity']:.2f}, BLEU {metrics['val/bleu']:.2f}"
                    )
        return self.finished and not stopping

    def _refuse_weights_not_finite(self) -> None:
        """`FloatingPointError` where they are no numbers any more: before they are validated, kept or saved."""
        if not all(torch.isfinite(tensor).all() for tensor in self.model.parameters()):
            raise FloatingPointError(self._not_finite("weights were"))

    def _update(self, batches: list[Batch]) -> None:
        """One step of the optimiser, from one batch or several. What does not fit the memory is cut in halves."""
        self.model.train()
        tokens = sum(int(batch.tgt_lengths.sum()) for batch in batches)
        while True:
            self.optimizer.zero_grad()
            try:
                nll = self._backward(batches, tokens)
                break
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or all(len(batch.indices) == 1 for batch in batches):
                    raise
            self.split_batches += 1
            log.warning(
                "step %d: out of memory; its batch is done in parts (%d so far). If that is often, lower "
                "training.batch_tokens (it is %d) and raise training.accumulate",
                *(self.step + 1, self.split_batches, self.settings.batch_tokens),
            )
            batches = [half for batch in batches for half in batch.halves()]
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.step += 1
        self.timed_tokens += tokens
        if torch.isfinite(norm + nll):
            self.optimizer.step()
            if self.average:
                self.average.update_parameters(self.model)
            self.bad_in_a_row = 0
            self.window += torch.tensor([float(nll), tokens, float(norm)], dtype=torch.float64)
            self.window_steps += 1
        else:
            self._skip(nll, norm)
        self.schedule.step()

    def _backward(self, batches: list[Batch], tokens: int) -> Tensor:
        """Gradients of the loss for each of so many tokens; returns the sum of the negative log-likelihoods."""
        nll = torch.zeros((), device=self.device)
        settings, times = self.settings, 2 if self.settings.r_drop else 1
        for batch in batches:
            batch = batch.to(self.device)
            real = batch.tgt_out != PAD
            src, lengths, tgt_in, targets = (
                rows.repeat_interleave(times, 0)
                for rows in (batch.src, batch.src_lengths, batch.tgt_in, batch.tgt_out[real])
            )
            with self.autocast(), fast.compiling(self.compile):
                readouts, _ = self.model(src, lengths, tgt_in)
                readouts = readouts.unflatten(0, (-1, times)).transpose(1, 2)[real].flatten(0, 1)
                loss, batch_nll = cross_entropy(
                    readouts, targets, self.model.output, settings.label_smoothing, settings.r_drop
                )
            (loss / (times * tokens)).backward()
            nll += batch_nll / times
        return nll

    def _not_finite(self, what: str) -> str:
        settings = self.settings
        return (
            f"{what} not finite up to step {self.step}; the last checkpoint is whole. Lower training.learning_rate (it "
            f"is {settings.learning_rate}) or training.clip_norm, lengthen training.warmup_steps, or set "
            "training.precision=fp32"
        )

    def _skip(self, nll: Tensor, norm: Tensor) -> None:
        self.bad_steps += 1
        self.bad_in_a_row += 1
        found = f"loss {float(nll)}, gradient norm {float(norm)}"
        log.warning("step %d skipped: %s (%d so far)", self.step, found, self.bad_steps)
        if self.bad_in_a_row >= self.settings.max_bad_steps:
            raise FloatingPointError(
                self._not_finite(f"loss or gradient was, {self.bad_in_a_row} steps in a row,")
            )

    def _log(self, seconds: float) -> dict[str, float]:
        nll, tokens, norms = self.window.tolist()
        metrics = {
            "train/learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            "train/skipped_steps": self.bad_steps,
            "train/tokens_per_second": self.timed_tokens / seconds,
        }
        if self.window_steps:  # not all of them skipped
            metrics["train/loss"] = nll / tokens
            metrics["train/perplexity"] = perplexity(nll / tokens)
            metrics["train/gradient_norm"] = norms / self.window_steps
        self.monitor.log(self.step, metrics)
        self.window.zero_()
        self.window_steps = self.timed_tokens = 0
        return metrics

    def _validate(self) -> dict[str, float]:
        """Measures, keeps the weights if they are the best so far, feeds schedule and early stopping."""
        metrics, samples = self.validate(self.best_model)  # type: ignore[arg-type]
        self.monitor.log(self.step, metrics)
        self.monitor.samples(self.step, samples)
        value = metrics[f"val/{self.settings.monitor}"]
        self.schedule.validated(value)
        better = -1 if self.settings.monitor == "loss" else 1
        if isfinite(value) and (self.best is None or better * value > better * self.best):
            self.best, self.validations_since_best = value, 0
            save_weights(self.run.checkpoints, "best", self.best_model)
        else:
            self.validations_since_best += 1
        if self.settings.keep:
            save_weights(self.run.checkpoints, f"step-{self.step:08d}", self.best_model, self.settings.keep)
        return metrics

    def _state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in CARRIED} | {
            "lines": self.monitor.lines,
            "batches": self.batches.state_dict(),
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def _load_state_dict(self, state: dict[str, Any]) -> None:
        for name in CARRIED:
            setattr(self, name, state[name])
        self.batches.load_state_dict(state["batches"])
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and state["random_cuda"] is not None:  # None: it was on a CPU until now
            torch.cuda.set_rng_state(state["random_cuda"], self.device)
