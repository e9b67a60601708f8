"""Optimiser, learning rate schedule and averaged weights, all by torch's own classes."""

import warnings
from math import cos, pi, sqrt

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LinearLR, LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel

from heed.config.schema import TrainingSettings

Tensors = tuple[Tensor, ...] | list[Tensor]


def make_optimizer(settings: TrainingSettings, model: nn.Module) -> Optimizer:
    """Return Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019), in its fused version.

    `weight_decay` applies to matrices alone. Biases, and the content score's ln β, have no reason to be near zero.
    """
    cls = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    others = {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0}
    return cls(
        [{"params": [p for p in parameters if p.dim() > 1]}, others] if settings.weight_decay else parameters,
        lr=settings.learning_rate,
        betas=tuple(settings.betas),
        weight_decay=settings.weight_decay,
        fused=True,
    )


class Schedule:
    """The learning rate: a linear warm-up, then `constant`, `inverse_sqrt`, `cosine` or `plateau`.

    `inverse_sqrt` is proportional to 1/√step (Vaswani et al. 2017, §5.3). `cosine` falls to zero at the last step.
    `plateau` halves the rate if the monitored value does not improve in two validations.
    """

    def __init__(self, settings: TrainingSettings, optimizer: Optimizer, total_steps: int) -> None:
        # torch warns if the optimiser skips the first update. Here any update may be skipped.
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
        warmup = max(1, settings.warmup_steps)
        decays = {
            "constant": lambda step: 1.0,
            "inverse_sqrt": lambda step: sqrt(warmup / (step + 1)),
            "cosine": lambda step: 0.5 * (1 + cos(pi * (step - warmup) / max(1, total_steps - warmup))),
        }
        self.plateau: ReduceLROnPlateau | None = None
        self.by_step: LRScheduler
        if settings.schedule == "plateau":  # A LambdaLR would undo its changes.
            self.by_step = LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)
            self.plateau = ReduceLROnPlateau(
                optimizer, "max" if settings.monitor == "bleu" else "min", factor=0.5, patience=1
            )
        else:
            decay = decays[settings.schedule]
            self.by_step = LambdaLR(optimizer, lambda s: (s + 1) / warmup if s < warmup else decay(s))

    def step(self) -> None:
        """Set the rate of the next update. To be called after each update."""
        self.by_step.step()

    def validated(self, value: float) -> None:
        """Take the monitored value into account. To be called after each validation."""
        if self.plateau:
            self.plateau.step(value)

    def state_dict(self) -> dict[str, object]:
        """Return the state in plain values."""
        return {
            "by_step": self.by_step.state_dict(),
            "plateau": self.plateau.state_dict() if self.plateau else None,
        }

    def load_state_dict(self, state: dict[str, dict[str, object]]) -> None:
        """Continue from a state."""
        self.by_step.load_state_dict(state["by_step"])
        if self.plateau:
            self.plateau.load_state_dict(state["plateau"])


def make_average(settings: TrainingSettings, model: nn.Module) -> AveragedModel | None:
    """Return the exponential moving average of the weights, or None if `ema_decay` is 0.

    After n updates the decay is at most (1 + n) / (10 + n), so that the untrained weights lose their share soon.
    """
    if not settings.ema_decay:
        return None

    def average(averages: Tensors, weights: Tensors, updates: Tensor | int) -> None:
        decay = min(settings.ema_decay, (1 + int(updates)) / (10 + int(updates)))
        torch._foreach_lerp_(averages, weights, 1 - decay)

    return AveragedModel(model, multi_avg_fn=torch.no_grad()(average))
