"""Evaluate a run or an ensemble on a split, or find the evaluation that was made before."""

import hashlib
import json
import logging
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from heed.alignment.forced_decoding import Forced, force_decode, perplexity_of
from heed.alignment.links import all_sure
from heed.alignment.word_links import OFFSETS, align_words, measure
from heed.config.schema import EvaluateConfig, TrainConfig
from heed.device import device_name
from heed.errors import UserError
from heed.evaluation.metrics import METRICS, make_bleu
from heed.evaluation.report import write_evaluation
from heed.files.atomic import backup_of, restore
from heed.files.checksums import read_json, sha256, to_json_values, verify_digests
from heed.files.locks import locked
from heed.files.names import file_name
from heed.ops.precision import resolve
from heed.run.checkpoints import weight_files
from heed.run.directory import Run
from heed.run.loading import held_out_pairs, load_translator, run_paths, weights_suffix
from heed.search.settings import SearchSettings

Pairs = list[tuple[str, str]]
log = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig, search_name: str, overridden: bool = False) -> tuple[Path, dict[str, Any]]:
    """Translate a split, and write an evaluation of the translations into the directory that `directory_of` names.

    Args:
        config: what to evaluate. Search settings and metrics that are None are those of the (first) run.
        search_name: the name of the search's YAML.
        overridden: True if values of the search or the metrics were overridden.

    Returns:
        The directory and the content of its `metrics.json`.
    """
    # The digests come first: a training may replace the weights while they are loaded.
    weights = weight_digests(config)
    translator, trained = load_translator(config)
    chosen = config.metrics.over(trained.metrics)
    make_bleu(str(chosen.tokenize), lowercase=False)  # fails early if its tokenizer is not installed
    config = replace(config, search=asdict(translator.settings))
    corpus, split, pairs = held_out_pairs(config.run, trained, config.split)
    sources, references = map(list, zip(*pairs, strict=True))
    directory = directory_of(config, split, search_name, overridden, trained)
    start = time.perf_counter()
    translations = translator.translate(sources, progress=sys.stderr.isatty())
    seconds = time.perf_counter() - start
    forced = force_decode(
        translator.models,
        translator.tokenizers,
        sources,
        references,
        translator.device,
        translator.precision,
    )
    warn_of_long_references(forced, translator.settings)
    agreements = None
    if gold := corpus.alignments(split):
        alignments = [pair.alignment for pair in forced]
        agreements = measure(
            align_words(translator.tokenizers, sources, references, alignments, OFFSETS), all_sure(gold)
        )
    device = torch.device(translator.device)
    metrics = write_evaluation(
        directory,
        sources=sources,
        references=references,
        translations=translations,
        **asdict(chosen),
        seconds=seconds,
        perplexity=perplexity_of(forced),
        agreements=agreements,
        info={
            "title": f"{split} by {', '.join(run_paths(config.run))}",
            "command": shlex.join(sys.argv),
            "arithmetic": {
                "device": device_name(device),
                "precision": resolve(trained.training.precision, device),
            },
            **identity(config, trained, pairs, weights),
        },
    )
    return directory, metrics


def warn_of_long_references(forced: Sequence[Forced], search: SearchSettings) -> None:
    """Warn of references that are longer than the search allows a translation to be."""
    lengths = torch.tensor([pair.alignment.shape for pair in forced if pair.alignment.size]).view(-1, 2)
    if long := int((lengths[:, 0] > search.limits(lengths[:, 1])).sum()):
        log.warning(
            "%d of %d references have more pieces than a translation may have: see search.max_length_ratio=%g",
            *(long, len(forced), search.max_length_ratio),
        )


def directory_of(config: EvaluateConfig, split: str, search_name: str, overridden: bool, trained: TrainConfig) -> Path:
    """Return `eval/<split>-<search>` in the (first) run. The name ends in the checkpoint and the ensemble, if any."""
    name = evaluation_name(config, search_name, overridden, trained)
    return Path(run_paths(config.run)[0]) / "eval" / f"{split}-{name}{weights_suffix(config)}"


def evaluation_name(config: EvaluateConfig, search_name: str, overridden: bool, trained: TrainConfig) -> str:
    """Return a file name for the settings of search and metrics. Different settings never have the same name.

    The run's own settings have the name of the run's own search. Another YAML without overrides has the YAML's name.
    Any other settings have a digest in their name. `metrics.bootstrap` does not count.
    """
    own = file_name(trained.names.get("search", "own"))  # an untrusted run may contain any name
    settings = [config.search, config.metrics.over(trained.metrics).protocol]
    if settings == [asdict(trained.search), trained.metrics.protocol]:
        name = own
    else:
        name = own if search_name == "trained" else file_name(search_name)
        if overridden or name == own:
            name += f"-{hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:6]}"
    return name


def find_or_evaluate(
    config: EvaluateConfig,
    search_name: str,
    trained: TrainConfig,
    pairs: Pairs,
    overridden: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Return the directory and the metrics of an evaluation of these pairs. Evaluates if there is none like it.

    All search settings must be given in the configuration, and the split must be one of the corpus.
    """
    directory = directory_of(config, str(config.split), search_name, overridden, trained)
    if not directory.exists() and backup_of(directory).exists():
        with locked(directory.parent / ".lock", wait=True):
            restore(directory)
    metrics = find_earlier(directory, identity(config, trained, pairs, weight_digests(config)))
    return (directory, metrics) if metrics else evaluate(config, search_name, overridden)


def find_earlier(directory: Path, info: dict[str, Any]) -> dict[str, Any] | None:
    """Return the `metrics.json` of the directory if it is intact and of an evaluation like this one."""
    file = directory / "metrics.json"
    if not file.exists():
        return None
    try:
        metrics = read_json(file)
        verify_digests(directory, metrics["files"], ["hypotheses.txt", "sentences.jsonl"])
        # A run is identified by its weights, not by its path.
        same = all(metrics["info"].get(key) == value for key, value in to_json_values(info).items() if key != "runs")
    except (UserError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: %s. The evaluation is made again", directory, error)
        return None
    return metrics if same else None


def identity(config: EvaluateConfig, trained: TrainConfig, pairs: Pairs, weights: list[str]) -> dict[str, Any]:
    """Return what an evaluation of these pairs with these weights depends on, as plain values for its report."""
    members = [trained.names, *(Run(path).config().names for path in run_paths(config.run)[1:])]
    groups = [name for name in sorted(trained.names) if name != "search" and all(name in names for names in members)]
    return {
        "runs": run_paths(config.run),
        "weights": weights,
        "sentences": hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:12],
        "checkpoint": config.checkpoint,
        "trained": {name: ", ".join(dict.fromkeys(names[name] for names in members)) for name in groups},
        "precision": trained.training.precision,
        "search": config.search,
        "metrics": asdict(config.metrics.over(trained.metrics)),
    }


def weight_digests(config: EvaluateConfig) -> list[str]:
    """Return digests of the weights' files."""
    checkpoints = (Run(path).checkpoints for path in run_paths(config.run))
    files = (file for one in checkpoints for file in weight_files(one, config.checkpoint))
    return [sha256(file)[:12] for file in files if file.exists()]


def summary(directory: Path, metrics: dict[str, Any]) -> str:
    """Return the last lines of a command: each metric with its interval and signature, and the report's path."""
    lines = []
    for key, name in METRICS.items():
        found = metrics[key]
        interval = "" if found["low"] is None else f" (95 %: {found['low']:.2f} to {found['high']:.2f})"
        lines.append(f"{name:5} {found['value']:6.2f}{interval}  {found['signature']}")
    return "\n".join([*lines, f"report: {directory / 'report.md'}"])
