"""The translations of a split by a run or an ensemble, and what they are worth."""

import hashlib
import json
import logging
import re
import shlex
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from heed.config import EvaluateConfig, TrainConfig
from heed.files import file_name, locked, restore, set_aside
from heed.loading import as_list, held_out, make_translator, search_of, which_weights
from heed.run import Run, differing
from heed.seals import check_digests, plain, read_json, sha256

log = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig, search_name: str) -> tuple[Path, dict[str, Any]]:
    """Translates a split, writes the evaluation into `directory_of` it; returns that and what its `scores.json` holds.

    What the search leaves open is as in training, for `search_name` its name too where that begins with `trained`.
    """
    search_of(config)  # what is wrong with it is told before torch is imported
    # Before they are read: a training may put better ones in their place meanwhile.
    weights = digests(config)
    translator, trained = make_translator(config)
    import torch

    from heed.device import arithmetic
    from heed.evaluation.aligner import OFFSETS, align_words, measure
    from heed.evaluation.forced import force_decode, perplexity_of
    from heed.evaluation.links import all_sure
    from heed.evaluation.metrics import make_bleu
    from heed.evaluation.report import write_evaluation
    from heed.linear import unchanging_weights

    metrics = config.metrics.over(trained.metrics)
    make_bleu(str(metrics.tokenize), lowercase=False)  # some need what is not here
    config = replace(config, search=asdict(translator.settings))
    corpus, split, pairs = held_out(config.run, trained, config.split)
    sources, references = map(list, zip(*pairs, strict=True))
    directory = directory_of(config, split, search_name, trained)
    start = time.perf_counter()
    with unchanging_weights():
        translations = translator.translate(sources, progress=sys.stderr.isatty())
    seconds = time.perf_counter() - start
    forced = force_decode(
        translator.models,
        translator.tokenizers,
        sources,
        references,
        translator.device,
        translator.autocast,
    )
    lengths = torch.tensor([pair.alignment.shape for pair in forced if pair.alignment.size]).view(-1, 2)
    if long := int((lengths[:, 0] > translator.settings.limits(lengths[:, 1])).sum()):
        log.warning(
            "%d of %d references have more pieces than a translation may: see search.max_length_ratio=%g",
            *(long, len(references), translator.settings.max_length_ratio),
        )
    agreements = None
    if gold := corpus.alignments(split):
        alignments = [pair.alignment for pair in forced]
        agreements = measure(
            align_words(translator.tokenizers, sources, references, alignments, OFFSETS), all_sure(gold)
        )
    scores = write_evaluation(
        directory,
        sources=sources,
        references=references,
        translations=translations,
        **asdict(metrics),
        seconds=seconds,
        perplexity=perplexity_of(forced),
        agreements=agreements,
        info={
            "title": f"{split} by {', '.join(as_list(config.run))}",
            "command": shlex.join(sys.argv),
            "arithmetic": arithmetic(trained.training.precision, torch.device(translator.device)),
            **about(config, trained, pairs, weights),
        },
    )
    return directory, scores


def directory_of(config: EvaluateConfig, split: str, search_name: str, trained: TrainConfig) -> Path:
    """`eval/<split>-<search>` in the (first) run; of which weights, where not the best, and of how many runs.

    Where the search goes by the name of the run's own, it says in what search and metrics differ from that: two that
    are not the same have never one name, unless it is `metrics.bootstrap` alone in which they differ.
    """
    name, own = name_search(search_name, trained), name_search("trained", trained)
    if name == own or name.startswith(f"{own}-"):
        here = {"search": config.search, "metrics": config.metrics.over(trained.metrics).protocol}
        there = {"search": asdict(trained.search), "metrics": trained.metrics.protocol}
        others = (f"-{key}_{file_name(str(value))}" for key, _, value in differing(there, here))
        name = own + "".join(others)
    return Path(as_list(config.run)[0]) / "eval" / f"{split}-{name}{which_weights(config)}"


def name_search(search_name: str, trained: TrainConfig) -> str:
    """The name with that of the run's own search for `trained`; as part of a file's name, for a run may say any."""
    own = trained.names.get("search", "own")
    return file_name(re.sub(r"^trained(?=-|$)", lambda _: own, search_name))


def find_or_make(
    config: EvaluateConfig, search_name: str, trained: TrainConfig, pairs: list[tuple[str, str]]
) -> tuple[Path, dict[str, Any]]:
    """The directory and the `scores.json` of an evaluation of these pairs, made where there is none like it.

    The configuration leaves nothing of the search open, and its split is one of the corpus.
    """
    directory = directory_of(config, str(config.split), search_name, trained)
    if not directory.exists() and set_aside(directory).exists():
        with locked(directory.parent / ".lock", wait=True):
            restore(directory)
    scores = earlier(directory, about(config, trained, pairs, digests(config)))
    return (directory, scores) if scores else evaluate(config, search_name)


def earlier(directory: Path, info: dict[str, Any]) -> dict[str, Any] | None:
    """The `scores.json` of the directory, if it is whole and of an evaluation like this one."""
    if not (directory / "scores.json").exists():
        return None
    try:
        scores = read_json(directory / "scores.json")
        check_digests(directory, scores["files"], ["hypotheses.txt", "sentences.jsonl"])
        # A run is known by its weights, not by how its path was written.
        same = all(scores["info"].get(key) == value for key, value in plain(info).items() if key != "runs")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: %s; the evaluation is made again", directory, error)
        return None
    return scores if same else None


def about(
    config: EvaluateConfig, trained: TrainConfig, pairs: list[tuple[str, str]], weights: list[str]
) -> dict[str, Any]:
    """All that an evaluation of these pairs by these weights depends on, as plain values for its report."""
    members = [trained.names, *(Run(path).config().names for path in as_list(config.run)[1:])]
    groups = [
        name for name in sorted(trained.names) if name != "search" and all(name in names for names in members)
    ]
    return {
        "runs": as_list(config.run),
        "weights": weights,
        "sentences": hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:12],
        "checkpoint": config.checkpoint,
        "trained": {name: ", ".join(dict.fromkeys(names[name] for names in members)) for name in groups},
        "precision": trained.training.precision,
        "search": config.search,
        "metrics": asdict(config.metrics.over(trained.metrics)),
    }


def digests(config: EvaluateConfig) -> list[str]:
    """What the weights are known by."""
    from heed.training.checkpoint import weight_files

    checkpoints = (Run(path).checkpoints for path in as_list(config.run))
    files = (file for one in checkpoints for file in weight_files(one, config.checkpoint))
    return [sha256(file)[:12] for file in files if file.exists()]


def summary(directory: Path, scores: dict[str, Any]) -> str:
    """What a command prints at its end: each metric with its interval and signature, and where the report is."""
    lines = []
    from heed.evaluation.metrics import METRICS

    for key, name in METRICS.items():
        found = scores[key]
        interval = "" if found["low"] is None else f" (95 %: {found['low']:.2f} to {found['high']:.2f})"
        lines.append(f"{name:5} {found['score']:6.2f}{interval}  {found['signature']}")
    return "\n".join([*lines, f"report: {directory / 'report.md'}"])
