"""Runs to models, one or several that translate together, and to the sentences that were held out from them."""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from heed.component import build_corpus
from heed.config import AlignConfig, EvaluateConfig, TrainConfig, TranslateConfig, search_over
from heed.data.corpus import Corpus
from heed.run import Run
from heed.search.settings import SearchSettings
from heed.text.pair import Tokenizers

if TYPE_CHECKING:
    import torch

    from heed.model import Seq2Seq
    from heed.search.translator import Translator


class Loaded(NamedTuple):
    """One run or several, ready to compute."""

    models: "list[Seq2Seq]"
    tokenizers: Tokenizers
    device: "torch.device"
    autocast: Callable[[], AbstractContextManager[None]]  # the precision of their training
    trained: TrainConfig  # the first one's


def load(config: EvaluateConfig | TranslateConfig | AlignConfig) -> Loaded:
    """The models of one run or several, which must share their tokenizers, on the device."""
    from heed.build import load_run
    from heed.device import autocast, keep_freed_memory, pick_device

    keep_freed_memory()
    paths = as_list(config.run)
    loaded = [load_run(path, config.checkpoint) for path in paths]
    first = tokenizer_files(paths[0])
    for path in paths[1:]:
        if tokenizer_files(path) != first:
            raise ValueError(
                f"{path} and {paths[0]} have different tokenizers: an ensemble needs one vocabulary"
            )
    _, tokenizers, trained = loaded[0]
    device = pick_device(config.device)
    models = [model.to(device) for model, _, _ in loaded]
    return Loaded(models, tokenizers, device, autocast(trained.training.precision, device), trained)


def search_of(config: EvaluateConfig | TranslateConfig) -> SearchSettings:
    """How they search: what `config.search` leaves open is the first run's."""
    return search_over(config.search, Run(as_list(config.run)[0]).config().search)


def make_translator(config: EvaluateConfig | TranslateConfig) -> "tuple[Translator, TrainConfig]":
    """What translates with a run or several, in the precision of their training, and the first one's configuration."""
    search = search_of(config)  # what is wrong with it is told before torch is imported
    from heed.search.translator import Translator

    models, tokenizers, device, autocast, trained = load(config)
    return Translator(models, tokenizers, search, device, autocast), trained


def held_out(runs: Any, trained: TrainConfig, split: str | None) -> tuple[Corpus, str, list[tuple[str, str]]]:
    """The corpus of the runs, and the name and the pairs of its `split`, by default of the one that training names.

    `ValueError` where they are not what was held out from the training of each run.
    """
    corpus = build_corpus(trained.data)
    name = corpus.resolve(split or trained.test_split)
    pairs = read_pairs(corpus, name)
    for path in as_list(runs):
        Run(path).check_split(name, pairs)
    return corpus, name, pairs


def read_pairs(corpus: Corpus, split: str) -> list[tuple[str, str]]:
    """The pairs of a split of a run's corpus; `ValueError` where that cannot be read."""
    try:
        return list(corpus.pairs(split))
    except ValueError as error:
        raise ValueError(
            f"{error}. If the run's corpus has moved, repeat the training command with its new place"
        ) from None


def which_weights(config: EvaluateConfig | AlignConfig) -> str:
    """The end of a directory's name: of which weights, where not the best, and of how many runs, where not one.

    Which these are, a digest says, so that ensembles of one first run do not overwrite each other.
    """
    first, *others = as_list(config.run)
    weights = "" if config.checkpoint == "best" else f"-{config.checkpoint}"
    if not others:
        return weights
    digest = hashlib.sha256(json.dumps([os.path.relpath(run, first) for run in others]).encode()).hexdigest()
    return f"{weights}-ensemble{1 + len(others)}-{digest[:6]}"


def tokenizer_files(path: str) -> dict[str, bytes]:
    """Contents by name."""
    return {file.name: file.read_bytes() for file in Path(path).glob("tokenizer*.model")}


def as_list(runs: Any) -> list[str]:
    """One run or several, as a list of paths."""
    paths = [str(run) for run in runs] if isinstance(runs, list | tuple) else [str(runs)]
    if not paths:
        raise ValueError("run is an empty list: name at least one run directory")
    return paths
