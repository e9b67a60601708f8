"""Runs to models: one, or several that translate together."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from heed.config import AlignConfig, EvaluateConfig, TrainConfig, TranslateConfig, search_over
from heed.run import Run
from heed.text.pair import Tokenizers

if TYPE_CHECKING:
    from heed.model import Seq2Seq
    from heed.search.translator import Translator


def make_translator(config: EvaluateConfig | TranslateConfig) -> "tuple[Translator, TrainConfig]":
    """What translates with a run or several, in the precision of their training, and the first one's configuration.

    What `config.search` leaves open is the first one's too.
    """
    # What is wrong with it is told before torch is imported.
    search = search_over(config.search, Run(as_list(config.run)[0]).config().search)
    from heed.search.translator import Translator

    models, tokenizers, trained, device, precision = ready(config)
    return Translator(models, tokenizers, search, device, precision), trained


def ready(config: EvaluateConfig | TranslateConfig | AlignConfig) -> Any:
    """The models of the runs on the device, tokenizers, configuration, device, and the context that they run in."""
    from heed.device import autocast, pick_device

    models, tokenizers, trained = load_runs(config.run, config.checkpoint)
    device = pick_device(config.device)
    precision = autocast(trained.training.precision, device)
    return [model.to(device) for model in models], tokenizers, trained, device, precision


def load_runs(runs: Any, checkpoint: str) -> "tuple[list[Seq2Seq], Tokenizers, TrainConfig]":
    """The models of one run or several, which must share their tokenizers, and the first one's configuration."""
    from heed.build import load_run
    from heed.device import keep_freed_memory

    keep_freed_memory()
    paths = as_list(runs)
    loaded = [load_run(path, checkpoint) for path in paths]
    first = tokenizer_files(paths[0])
    for path in paths[1:]:
        if tokenizer_files(path) != first:
            raise ValueError(
                f"{path} and {paths[0]} have different tokenizers: an ensemble needs one vocabulary"
            )
    return [model for model, _, _ in loaded], loaded[0][1], loaded[0][2]


def tokenizer_files(path: str) -> dict[str, bytes]:
    """Contents by name."""
    return {file.name: file.read_bytes() for file in Path(path).glob("tokenizer*.model")}


def as_list(runs: Any) -> list[str]:
    """One run or several, as a list of paths."""
    paths = [str(run) for run in runs] if isinstance(runs, list | tuple) else [str(runs)]
    if not paths:
        raise ValueError("run is an empty list: name at least one run directory")
    return paths
