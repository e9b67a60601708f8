"""Train a run from its beginning or its last checkpoint, then evaluate it."""

import logging
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from heed.cli.command import choices, command, is_multirun, overrides
from heed.cli.multirun import train_in_subprocess
from heed.cli.prepare import prepare
from heed.config.components import build_corpus, build_tokenizer_settings
from heed.config.schema import EvaluateConfig, TrainConfig, train_config
from heed.data.prepare import Prepared
from heed.errors import UserError
from heed.files.locks import locked
from heed.run.directory import Run
from heed.run.identity import default_path, flat
from heed.training.signals import INTERRUPTED

log = logging.getLogger(__name__)


@command("train")
def main(composed: DictConfig) -> None:
    """Train and evaluate the run of a composed configuration."""
    if is_multirun():
        return train_in_subprocess()
    config = train_config(composed, choices(composed))
    if OmegaConf.is_config(composed.run):
        raise UserError(f"run is {composed.run}: name one directory")
    train(config, str(composed.run or default_path(config.names, config.seed, overrides())))


def train(config: TrainConfig, path: str | Path) -> None:
    """Train the run in `path` to its end and evaluate it. If interrupted, save it and exit with status 130."""
    split = build_corpus(config.data).resolve(config.test_split)
    tokenizer = build_tokenizer_settings(config.tokenizer)
    check_regularisation(config, tokenizer.samples)
    run = Run(path)
    run.check(config)
    check_parts(config, run, tokenizer.joint)
    prepared = prepare(config)
    with locked(run.path / ".lock"):
        run.check(config)  # again: another process may have begun a run here since
        train_locked(config, run, prepared, split)


def check_regularisation(config: TrainConfig, can_sample: bool) -> None:
    """Raise `UserError` for subword sampling that the tokenizer cannot do. Warn if R-Drop has no dropout to compare."""
    if config.training.subword_sampling is not None and not can_sample:
        raise UserError(
            f"training.subword_sampling={config.training.subword_sampling} needs a tokenizer that can cut a text in "
            "more than one way: take tokenizer=sentencepiece, or training.subword_sampling=null"
        )
    if config.training.r_drop and not (config.model.dropout or config.model.word_dropout):
        log.warning(
            "training.r_drop=%s compares two passes with different dropout, and there is no dropout: it doubles the "
            "time and changes nothing. Set model.dropout, or training.r_drop=0",
            config.training.r_drop,
        )


def check_parts(config: TrainConfig, run: Run, joint: bool) -> None:
    """Raise `UserError` for parts that do not fit together, before the corpus is prepared."""
    from heed.config.model import build_model
    from heed.device import pick_device
    from heed.evaluation.metrics import make_bleu
    from heed.model.contract import check_score
    from heed.run.checkpoints import states

    if run.finished and not states(run.checkpoints):
        raise UserError(
            f"{run.path} holds trained weights but no training state: training would begin again and replace them. "
            "Copy its checkpoints/last.safetensors too, name another directory (make: RUN=..., script: run=...), or "
            "remove this one"
        )
    make_bleu(str(config.metrics.tokenize), lowercase=False)  # fails if its tokenizer is not installed
    pick_device(config.device)
    check_score(build_model(config, (8, 8), joint).decoder.attention.score)


def train_locked(config: TrainConfig, run: Run, prepared: Prepared, split: str) -> None:
    """Train a run that no other process can write, then evaluate it."""
    from heed.config.model import num_parameters
    from heed.device import keep_freed_memory, peak_memory
    from heed.evaluation.evaluate import find_or_evaluate, summary
    from heed.evaluation.metrics import METRICS
    from heed.training.setup import build_trainer

    run.claim(config, prepared.directory)
    keep_freed_memory()
    trainer = build_trainer(config, prepared, run)
    size = num_parameters(trainer.model)
    print(f"{run.path}: {size:,} parameters, {trainer.total_steps:,} steps, at step {trainer.step:,}")
    was_finished, start = trainer.finished, time.perf_counter()
    if not trainer.train():
        trainer.monitor.close()
        print(f"interrupted at step {trainer.step:,} and saved; the same command continues from there")
        sys.exit(INTERRUPTED)
    peak = {} if was_finished else {"peak_memory": peak_memory(trainer.device)}
    run.add_record(finished=True, lines=trainer.monitor.lines, **peak)
    print(f"trained {trainer.step:,} steps; {time.perf_counter() - start:.0f} s since the last start")
    evaluation = EvaluateConfig(str(run.path), "best", split, asdict(config.search), config.metrics, config.device)
    pairs = list(build_corpus(config.data).pairs(split))
    directory, metrics = find_or_evaluate(evaluation, "trained", config, pairs)
    print(summary(directory, metrics))
    found = {f"test/{name}": metrics[name]["value"] for name in METRICS}
    trainer.monitor.hparams(trainer.step + 1, hparams(config), found)
    trainer.monitor.close()


def hparams(config: TrainConfig) -> dict[str, Any]:
    """Return the choices and settings by which TensorBoard's table sorts runs."""
    groups = {"model": asdict(config.model), "training": asdict(config.training)}
    groups |= {"score": config.score, "decoder": config.decoder}
    plain = {
        key: value
        for key, value in flat(groups).items()
        if isinstance(value, bool | int | float | str) and not key.endswith("._target_")
    }
    return {**config.names, "seed": config.seed, **plain}
