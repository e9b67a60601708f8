"""The training loop."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import islice
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from heed.config.schema import TrainingSettings
from heed.data.batches import Batch, Batches
from heed.device import out_of_memory
from heed.errors import DivergedError
from heed.model import Seq2Seq
from heed.ops.cross_entropy import cross_entropy, perplexity
from heed.run.checkpoints import finish_renames, load_state, save_state, save_weights
from heed.run.directory import Run
from heed.text import PAD
from heed.training.monitor import Monitor
from heed.training.optimization import Schedule, make_average, make_optimizer
from heed.training.progress import Progress
from heed.training.signals import interruptible
from heed.training.validation import Validator

log = logging.getLogger(__name__)

CARRIED = ("step", "best", "validations_since_best", "bad_steps", "bad_in_a_row", "window", "window_steps")
"""Attributes of the trainer that a checkpoint holds as they are, besides the states of its parts."""


class Trainer:
    """Trains a model in a run directory.

    A new trainer in the same directory continues as if the first had never stopped.
    """

    def __init__(
        self,
        model: Seq2Seq,
        batches: Batches,
        validator: Validator,
        settings: TrainingSettings,
        run: Run,
        seed: int,
        device: torch.device,
        precision: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Load the state of the run's last checkpoint, if there is one. `precision` makes the context of the model."""
        self.model, self.batches, self.validator = model.to(device), batches, validator
        self.settings, self.run, self.device, self.precision = settings, run, device, precision
        epochs = -(-settings.max_epochs * len(batches) // settings.accumulate)
        self.total_steps = min(settings.max_steps or epochs, epochs)
        self.validate_every = settings.validate_every or -(-len(batches) // settings.accumulate)
        self.optimizer = make_optimizer(settings, model)
        self.schedule = Schedule(settings, self.optimizer, self.total_steps)
        self.average = make_average(settings, model)
        # Only here: if the directory vanishes during training, half a run must not appear in its place.
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        self.step = 0
        self.best: float | None = None
        self.validations_since_best = 0
        self.bad_steps, self.bad_in_a_row = 0, 0
        self.window = torch.zeros(3, dtype=torch.float64)  # since the last log: nll, tokens, gradient norms
        self.window_steps = 0
        self.split_batches = 0  # by this process
        torch.manual_seed(seed)  # dropout
        finish_renames(run.checkpoints)
        state = load_state(run.checkpoints)
        if state is not None:
            self._load_state_dict(state)
        self.monitor = Monitor(run, self.step, state["lines"] if state else 0)

    @property
    def finished(self) -> bool:
        """True if all steps are done, or validation has not improved for `patience` times."""
        patience = self.settings.patience
        return self.step >= self.total_steps or (patience is not None and self.validations_since_best >= patience)

    @property
    def best_model(self) -> nn.Module:
        """The model that is validated and kept: with averaged weights if `ema_decay` is set."""
        return self.average.module if self.average else self.model

    def train(self) -> bool:
        """Train to the end and return True; or until SIGINT, SIGTERM or SIGHUP, save, and return False.

        A signal during the last step returns False too: the next command does what comes after training.

        Raises:
            DivergedError: the loss or gradient is not finite `max_bad_steps` times in a row, or the weights are not.
        """
        settings = self.settings
        stream = iter(self.batches)
        stopping = False
        with interruptible() as interrupted, Progress(self.total_steps, self.step) as progress:
            while not self.finished and not stopping:
                tokens = self.update(list(islice(stream, settings.accumulate)))
                stopping = interrupted()
                if stopping:
                    progress.hide()
                progress.advance(tokens)
                if self.step % settings.log_every == 0:
                    progress.show(self.log(progress.tokens_per_second()))
                metrics = None
                if self.step % self.validate_every == 0 or self.step == self.total_steps:
                    with progress.paused():
                        metrics = self.validate()
                    stopping = stopping or interrupted()
                if metrics or stopping or (settings.save_every and self.step % settings.save_every == 0):
                    self.save()
                if metrics:  # after saving: standard output may be a closed pipe
                    progress.write(self._summary(metrics))
        return self.finished and not stopping

    def update(self, batches: list[Batch]) -> int:
        """Make one step of the optimiser from one batch or several. Returns the number of target tokens.

        A batch that does not fit the memory is cut in halves.
        """
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
            batches = self._halve(batches)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.step += 1
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
        return tokens

    def _backward(self, batches: list[Batch], tokens: int) -> Tensor:
        """Add the gradients of the mean loss of all `tokens`. Returns the summed negative log-likelihood.

        With R-Drop each sentence is a pair of rows, which differ in their dropout.
        """
        nll = torch.zeros((), device=self.device)
        settings, times = self.settings, 2 if self.settings.r_drop else 1
        for batch in batches:
            batch = batch.to(self.device)
            real = batch.tgt_out != PAD
            src, lengths, tgt_in, targets = (
                rows.repeat_interleave(times, 0)
                for rows in (batch.src, batch.src_lengths, batch.tgt_in, batch.tgt_out[real])
            )
            with self.precision():
                readouts, _ = self.model(src, lengths, tgt_in)
                readouts = readouts.unflatten(0, (-1, times)).transpose(1, 2)[real].flatten(0, 1)
                loss, batch_nll = cross_entropy(
                    readouts, targets, self.model.output, settings.label_smoothing, settings.r_drop
                )
            (loss / (times * tokens)).backward()
            nll += batch_nll / times
        return nll

    def _halve(self, batches: list[Batch]) -> list[Batch]:
        self.split_batches += 1
        log.warning(
            "step %d: out of memory; its batch is done in parts (%d so far). If this happens often, lower "
            "training.batch_tokens (it is %d) and raise training.accumulate",
            *(self.step + 1, self.split_batches, self.settings.batch_tokens),
        )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return [half for batch in batches for half in batch.halves()]

    def _skip(self, nll: Tensor, norm: Tensor) -> None:
        """Count a step whose loss or gradient is not finite."""
        self.bad_steps += 1
        self.bad_in_a_row += 1
        found = f"loss {float(nll)}, gradient norm {float(norm)}"
        log.warning("step %d skipped: %s (%d so far)", self.step, found, self.bad_steps)
        if self.bad_in_a_row >= self.settings.max_bad_steps:
            raise self._diverged(f"the loss or gradient was not finite {self.bad_in_a_row} steps in a row")

    def _diverged(self, what: str) -> DivergedError:
        return DivergedError(
            f"{what}, up to step {self.step}; the last checkpoint is intact. Lower training.learning_rate (it is "
            f"{self.settings.learning_rate}) or training.clip_norm, lengthen training.warmup_steps, or set "
            "training.precision=fp32"
        )

    def log(self, tokens_per_second: float) -> dict[str, float]:
        """Log and return the metrics since the last log."""
        nll, tokens, norms = self.window.tolist()
        metrics = {
            "train/learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            "train/skipped_steps": self.bad_steps,
            "train/tokens_per_second": tokens_per_second,
        }
        if self.window_steps:  # not all of them skipped
            metrics["train/loss"] = nll / tokens
            metrics["train/perplexity"] = perplexity(nll / tokens)
            metrics["train/gradient_norm"] = norms / self.window_steps
        self.monitor.log(self.step, metrics)
        self.window.zero_()
        self.window_steps = 0
        return metrics

    def validate(self) -> dict[str, float]:
        """Validate, and keep the weights if they are the best so far. Returns the metrics."""
        self._check_weights()
        metrics, samples = self.validator(self.best_model)  # type: ignore[arg-type]
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

    def save(self) -> None:
        """Save the state of training, after what was logged up to it."""
        self._check_weights()
        self.monitor.flush()
        save_state(self.run.checkpoints, self._state_dict())

    def _check_weights(self) -> None:
        """Raise `DivergedError` if a weight is not finite: it must not be validated, kept or saved."""
        if not all(torch.isfinite(tensor).all() for tensor in self.model.parameters()):
            raise self._diverged("the weights are not finite")

    def _summary(self, metrics: dict[str, float]) -> str:
        # Accumulated updates may end an epoch a batch late.
        epoch = min(self.batches.epoch + 1, self.settings.max_epochs)
        return (
            f"step {self.step}, epoch {epoch}: val loss {metrics['val/loss']:.3f}, "
            f"ppl {metrics['val/perplexity']:.2f}, BLEU {metrics['val/bleu']:.2f}"
        )

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
        if self.device.type == "cuda" and state["random_cuda"] is not None:  # None: trained on a CPU so far
            torch.cuda.set_rng_state(state["random_cuda"], self.device)
