"""Set up the training of a run, and record what it is made of."""

import hashlib
import logging
from typing import Any

import torch

from heed.config.components import build_tokenizer_settings, own_code
from heed.config.model import build_model, load_vectors, num_parameters
from heed.config.schema import TrainConfig, TrainingSettings
from heed.data.batches import Batches, Sampling
from heed.data.prepare import Prepared
from heed.device import device_name, pick_device
from heed.errors import UserError
from heed.files.checksums import sha256
from heed.model import Seq2Seq
from heed.ops import switch
from heed.ops.loop import missing_for_compiling
from heed.ops.precision import precision, resolve
from heed.run.checkpoints import states
from heed.run.directory import Run
from heed.run.identity import differing
from heed.training.trainer import Trainer
from heed.training.validation import Validator

log = logging.getLogger(__name__)


def build_trainer(config: TrainConfig, prepared: Prepared, run: Run) -> Trainer:
    """Return the training loop of a run over a prepared corpus, at the run's last checkpoint if it has one."""
    settings, device = config.training, pick_device(config.device)
    compiled = settings.compile
    if compiled and (missing := missing_for_compiling()):
        log.warning("training.compile=true needs %s: not found, so training is slower", missing)
        compiled = False
    computing = arithmetic(settings, device, compiled)
    check_arithmetic(run, computing, settings.strict_resume)
    tokenizers = prepared.tokenizers
    model = build_model(config, (len(tokenizers.src), len(tokenizers.tgt)), tokenizers.joint)
    validator = Validator(
        Batches(prepared.pairs("val"), 4 * settings.batch_tokens, config.seed, shuffle=False),
        prepared.text("val"),
        tokenizers,
        config.metrics.protocol,
        settings.num_samples,
        device,
        precision(settings.precision, device),
    )
    alpha = settings.subword_sampling
    sampling = None if alpha is None else Sampling(tokenizers, prepared.text("train"), alpha)
    batches = Batches(prepared.pairs("train"), settings.batch_tokens, config.seed, sampling=sampling)
    if not states(run.checkpoints):
        load_vectors(model, build_tokenizer_settings(config.tokenizer), tokenizers)
        made_of = fingerprints(model, batches, (prepared.directory / "prepare.json").read_bytes())
        run.add_record(finished=False, arithmetic=[], **made_of)
    context = precision(settings.precision, device, compiled)
    trainer = Trainer(model, batches, validator, settings, run, config.seed, device, context)
    if not trainer.finished:
        run.add_record(
            code={group: sha256(file) for group, file in own_code(config).items()},
            arithmetic=extended(history(run), trainer.step, computing),
        )
    return trainer


def arithmetic(settings: TrainingSettings, device: torch.device, compiled: bool) -> dict[str, Any]:
    """Return what the last bits of all numbers depend on: machine, precision, threads, and ways to compute."""
    return {
        "device": device_name(device),
        "precision": resolve(settings.precision, device),
        "compiled": compiled,
        "reference": not switch.enabled(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def history(run: Run) -> list[dict[str, Any]]:
    """Return the arithmetic of each part of a run, with the `step` that the part begins at.

    A damaged record has no history: `add_record` warns of it and begins a new one.
    """
    try:
        parts: list[dict[str, Any]] = run.record().get("arithmetic", [])
    except UserError:
        return []
    return parts


def check_arithmetic(run: Run, computing: dict[str, Any], strict: bool) -> None:
    """Warn, or raise `UserError` if `strict`, if a run is continued in another arithmetic than its last part."""
    last = history(run)[-1:] if states(run.checkpoints) else []
    for part in last:
        changes = [f"{key} was {before!r}, is {now!r}" for key, before, now in differing(part, part | computing)]
        if changes and strict:
            raise UserError(
                f"{run.path} would continue in another arithmetic ({'; '.join(changes)}) and "
                "training.strict_resume=true. Continue it where it was trained, or set training.strict_resume=false"
            )
        if changes:
            log.warning(
                "%s continues in another arithmetic: %s. It will not be what one uninterrupted run gives, bit for bit",
                *(run.path, "; ".join(changes)),
            )


def extended(parts: list[dict[str, Any]], step: int, computing: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the history with a part that begins at `step`, unless the last part has the same arithmetic."""
    parts = [part for part in parts if part["step"] < step]
    if parts and computing.items() <= parts[-1].items():
        return parts
    return [*parts, {"step": step, **computing}]


def fingerprints(model: Seq2Seq, batches: Batches, corpus: bytes) -> dict[str, Any]:
    """Return digests of what must be equal in all runs of a fair comparison, and the numbers of parameters."""
    weights, order = hashlib.sha256(), hashlib.sha256(corpus)
    score = set(model.decoder.attention.score.parameters())
    for name, parameter in model.named_parameters():
        if parameter not in score:
            weights.update(name.encode() + parameter.detach().numpy().tobytes())
    if batches.sampling:
        order.update(f"sampled with {batches.sampling.alpha}".encode())
    for indices in batches.plan(0):
        order.update(indices.tobytes() + b"/")
    return {
        "score_parameters": num_parameters(model.decoder.attention.score),
        "parameters": num_parameters(model),
        "initial_weights": weights.hexdigest(),  # of all but the score
        "batches": order.hexdigest(),  # of the first epoch, and of the corpus
    }
