"""Load runs: one model or an ensemble, and the sentences that were held out from their training."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from heed.config.components import build_corpus, build_tokenizer_settings
from heed.config.model import build_model
from heed.config.schema import AlignConfig, EvaluateConfig, TrainConfig, TranslateConfig, search_over
from heed.data.corpus import Corpus
from heed.device import keep_freed_memory, pick_device
from heed.errors import UserError
from heed.model import Seq2Seq
from heed.ops.precision import precision
from heed.run.checkpoints import check_shapes, load_weights, read_weights
from heed.run.directory import Run
from heed.search.translator import Translator
from heed.text.pair import Tokenizers, load_pair

log = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """One run or several, ready to compute."""

    models: list[Seq2Seq]
    tokenizers: Tokenizers
    device: torch.device
    precision: Callable[[], AbstractContextManager[None]]  # the precision that the first run was trained in
    trained: TrainConfig  # the first run's configuration


def load_run(path: str | Path, checkpoint: str) -> tuple[Seq2Seq, Tokenizers, TrainConfig]:
    """Return a run's model with the weights of a checkpoint (see `read_weights`), its tokenizers and configuration."""
    run = Run(path)
    config = run.config()
    run.check_corpus()
    for changed in run.changed_code(config):
        log.warning("%s: %s has changed since the run was trained", path, changed)
    tokenizers = load_pair(build_tokenizer_settings(config.tokenizer), run.path)
    sizes = (len(tokenizers.src), len(tokenizers.tgt))
    weights, file = read_weights(run.checkpoints, checkpoint)
    # A configuration may ask for any size, so the sizes are compared with the file's before memory is allocated.
    # A user's score that computes with NumPy in its constructor cannot be built without memory (`TypeError`).
    with suppress(RuntimeError, TypeError), torch.device("meta"):
        check_shapes(build_model(config, sizes, tokenizers.joint), weights, file)
    model = build_model(config, sizes, tokenizers.joint)
    load_weights(model, weights, file)
    return model, tokenizers, config


def load_ensemble(config: EvaluateConfig | TranslateConfig | AlignConfig) -> Loaded:
    """Load one run or several, which must share their tokenizers, onto the device."""
    keep_freed_memory()
    paths = run_paths(config.run)
    loaded = [load_run(path, config.checkpoint) for path in paths]
    first = _tokenizer_files(paths[0])
    for path in paths[1:]:
        if _tokenizer_files(path) != first:
            raise UserError(f"{path} and {paths[0]} have different tokenizers: an ensemble needs one vocabulary")
    _, tokenizers, trained = loaded[0]
    device = pick_device(config.device)
    models = [model.to(device) for model, _, _ in loaded]
    return Loaded(models, tokenizers, device, precision(trained.training.precision, device), trained)


def load_translator(config: EvaluateConfig | TranslateConfig) -> tuple[Translator, TrainConfig]:
    """Return a translator with one run or several, in the precision of their training, and the first configuration."""
    own = Run(run_paths(config.run)[0]).config().search
    search = search_over(config.search, own)
    models, tokenizers, device, computing, trained = load_ensemble(config)
    return Translator(models, tokenizers, search, device, computing), trained


def held_out_pairs(runs: Any, trained: TrainConfig, split: str | None) -> tuple[Corpus, str, list[tuple[str, str]]]:
    """Return the runs' corpus, and the name and pairs of its `split` (by default the one that training evaluates).

    Raises `UserError` if these pairs are not what was held out from the training of each run.
    """
    corpus = build_corpus(trained.data)
    name = corpus.resolve(split or trained.test_split)
    pairs = read_pairs(corpus, name)
    for path in run_paths(runs):
        Run(path).check_split(name, pairs)
    return corpus, name, pairs


def read_pairs(corpus: Corpus, split: str) -> list[tuple[str, str]]:
    """Return the pairs of a split of a run's corpus. Raises `UserError` if they cannot be read."""
    try:
        return list(corpus.pairs(split))
    except UserError as error:
        raise UserError(
            f"{error}. If the run's corpus has moved, repeat the training command with its new place"
        ) from None


def weights_suffix(config: EvaluateConfig | AlignConfig) -> str:
    """Return the end of an output directory's name: the checkpoint unless it is the best, and the ensemble.

    A digest of the other runs' paths keeps ensembles with the same first run apart.
    """
    first, *others = run_paths(config.run)
    weights = "" if config.checkpoint == "best" else f"-{config.checkpoint}"
    if not others:
        return weights
    digest = hashlib.sha256(json.dumps([os.path.relpath(run, first) for run in others]).encode()).hexdigest()
    return f"{weights}-ensemble{1 + len(others)}-{digest[:6]}"


def run_paths(runs: Any) -> list[str]:
    """Return one run or several as a list of paths."""
    paths = [str(run) for run in runs] if isinstance(runs, list | tuple) else [str(runs)]
    if not paths:
        raise UserError("run is an empty list: name at least one run directory")
    return paths


def _tokenizer_files(path: str) -> dict[str, bytes]:
    """Return the contents of a run's tokenizer files by name."""
    return {file.name: file.read_bytes() for file in Path(path).glob("tokenizer*.model")}
