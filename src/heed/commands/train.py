"""A run, from its beginning or where it stopped, to its evaluation."""

import logging
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heed.commands.evaluate import find_or_make, summary
from heed.commands.prepare import prepare
from heed.component import build_corpus, build_tokenizer_settings
from heed.config import EvaluateConfig, TrainConfig
from heed.data.prepare import Prepared
from heed.files import locked
from heed.run import Run, flat
from heed.signals import INTERRUPTED

log = logging.getLogger(__name__)


def train(config: TrainConfig, path: str | Path) -> None:
    """Trains the run in `path` to its end and evaluates it; or, interrupted, saves and exits with status 130."""
    split = build_corpus(config.data).resolve(config.test_split)
    tokenizer = build_tokenizer_settings(config.tokenizer)
    if config.training.subword_sampling is not None and not tokenizer.samples:
        raise ValueError(
            f"training.subword_sampling={config.training.subword_sampling} needs a tokenizer that can cut a text in "
            "more than one way: take tokenizer=sentencepiece, or training.subword_sampling=null"
        )
    if config.training.r_drop and not (config.model.dropout or config.model.word_dropout):
        log.warning(
            "training.r_drop=%s compares two passes that differ in their dropout, and there is none: it changes "
            "nothing and takes twice the time. Set model.dropout, or training.r_drop=0",
            config.training.r_drop,
        )
    run = Run(path)
    run.check(config)

    from heed.build import build_model, check_decoder, check_energies
    from heed.device import pick_device
    from heed.evaluation.metrics import make_bleu
    from heed.training.checkpoint import states

    if run.finished and not states(run.checkpoints):
        raise ValueError(
            f"{run.path} holds trained weights, and no training state to go on from: training would begin anew and "
            "replace them. Copy its checkpoints/last.safetensors too, name another directory (make: RUN=..., script: "
            "run=...), or remove this one"
        )
    make_bleu(str(config.metrics.tokenize), lowercase=False)  # some need what is not here
    pick_device(config.device)
    # Parts that do not fit are told before the corpus is prepared.
    model = build_model(config, (8, 8), tokenizer.joint)
    check_energies(model.decoder.attention.score)
    check_decoder(model)
    prepared = prepare(config)
    with locked(run.path / ".lock"):
        _train(config, run, prepared, split)


def _train(config: TrainConfig, run: Run, prepared: Prepared, split: str) -> None:
    run.check(config)  # again: since then, another process may have begun one here
    from heed.build import build_trainer, num_parameters
    from heed.device import keep_freed_memory, peak_memory
    from heed.evaluation.metrics import METRICS

    run.claim(config, prepared.directory)
    keep_freed_memory()
    trainer = build_trainer(config, prepared, run)
    size = num_parameters(trainer.model)
    print(f"{run.path}: {size:,} parameters, {trainer.total_steps:,} steps, at step {trainer.step:,}")
    was_finished, start = trainer.finished, time.perf_counter()
    if not trainer.train():
        trainer.monitor.close()
        print(f"interrupted at step {trainer.step:,} and saved; the same command goes on from there")
        sys.exit(INTERRUPTED)
    peak = {} if was_finished else {"peak_memory": peak_memory(trainer.device)}
    run.record(finished=True, lines=trainer.monitor.lines, **peak)
    print(f"trained {trainer.step:,} steps; {time.perf_counter() - start:.0f} s since the last start")
    evaluation = EvaluateConfig(
        str(run.path), "best", split, asdict(config.search), config.metrics, config.device
    )
    pairs = list(build_corpus(config.data).pairs(split))
    directory, scores = find_or_make(evaluation, "trained", config, pairs)
    print(summary(directory, scores))
    found = {f"test/{name}": scores[name]["score"] for name in METRICS}
    trainer.monitor.hparams(trainer.step + 1, hparams(config), found)
    trainer.monitor.close()


def hparams(config: TrainConfig) -> dict[str, Any]:
    """The choices and settings that TensorBoard's table sorts runs by."""
    groups = {"model": asdict(config.model), "training": asdict(config.training)}
    groups |= {"score": config.score, "decoder": config.decoder}
    plain = {
        key: value
        for key, value in flat(groups).items()
        if isinstance(value, bool | int | float | str) and not key.endswith("._target_")
    }
    return {**config.names, "seed": config.seed, **plain}
