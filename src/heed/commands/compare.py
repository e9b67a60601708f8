"""Comparing runs: what `scripts/compare.py` and the end of a multirun do."""

import html
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from glob import glob
from pathlib import Path
from typing import Any

from heed.commands.evaluate import about, earlier, evaluate
from heed.component import build_corpus
from heed.config import CompareConfig, EvaluateConfig, MetricSettings, search_over
from heed.run import Run

MANY = 5  # systems: more than a title names


def compare(config: CompareConfig, search_name: str) -> dict[str, Any]:
    """Reports on the runs that `config.runs` names, directories or patterns; returns what stands in `compare.json`."""
    patterns = config.runs if isinstance(config.runs, list) else str(config.runs).split()
    paths: set[str] = set()
    for pattern in map(str, patterns):
        found = {os.path.relpath(path) for path in glob(pattern) if Run(path).config_file.exists()}
        if not found:
            raise ValueError(
                f"no run directory is named by {pattern}: give directories that hold a config.yaml"
            )
        paths |= found
    return compare_runs(sorted(paths), config, search_name)


def compare_runs(
    paths: Sequence[str], config: CompareConfig, search_name: str, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """The same of these directories; those whose training has not finished are left out, which the report says.

    What the search leaves open is as in training. An evaluation that is not there, or was made in another way, is made.
    `ValueError` where none has finished, and where test sentences, searches or measures are not the same.
    """
    from heed.evaluation.comparison import (
        Evaluated,
        refuse_different_measures,
        summarise,
        systems_of,
        warn,
    )
    from heed.evaluation.comparison_report import write_comparison
    from heed.evaluation.significance import Scored, differences

    finished, notes = [], list(notes)
    for path in paths:
        run = Run(path)
        older = (run.checkpoints / "best.safetensors").exists()  # than records of that
        if run.config_file.exists() and run.facts().get("finished", older):
            finished.append(path)
        else:
            notes.append(f"left out, since its training has not finished: {path}")
    if not finished:
        raise ValueError("nothing to compare; " + "; ".join(notes))

    configs = {path: Run(path).config() for path in finished}
    searches = {path: search_over(config.search, trained.search) for path, trained in configs.items()}
    search = searches[finished[0]]
    if other := next((path for path in finished if searches[path] != search), None):
        raise ValueError(
            f"{finished[0]} and {other} were trained with different searches: name one for all, such as search=beam"
        )
    if search_name == "trained":
        search_name = configs[finished[0]].names["search"]
    absolute = {path: Path(os.path.abspath(path)) for path in finished}
    systems = {
        path: one.parent if one.name == f"seed{configs[path].seed}" else one for path, one in absolute.items()
    }
    shared = os.path.relpath(os.path.commonpath([system.parent for system in systems.values()]))
    names = short({path: os.path.relpath(system, shared) for path, system in systems.items()})
    texts: dict[str, list[tuple[str, str]]] = {}  # by what the corpus is made of
    runs = []
    for path, trained in configs.items():
        corpus = build_corpus(trained.data)
        split = corpus.resolve(config.split)
        key = json.dumps([trained.data, split], sort_keys=True)
        if key not in texts:
            texts[key] = list(corpus.pairs(split))
        first = next(iter(texts.values()))
        if texts[key] != first:
            raise ValueError(
                f"{path} and {finished[0]} have other test sentences ({split}): compare them apart"
            )
        evaluation = EvaluateConfig(
            path, "best", split, asdict(search), MetricSettings(None, None, None), config.device
        )
        directory = Path(path) / "eval" / f"{split}-{search_name}"
        if not earlier(directory, about(evaluation, trained, texts[key])):
            evaluate(evaluation, search_name)
        runs.append(Evaluated.load(Run(path), directory, names[path]))
    refuse_different_measures(runs)
    by_name = systems_of(runs)
    references = [target for _, target in first]
    protocol = asdict(trained.metrics)
    del protocol["bootstrap"]
    found = differences(
        {
            name: {run.seed: Scored(run.hypotheses, run.scores["bleu"]["score"]) for run in of_system}
            for name, of_system in by_name.items()
        },
        references,
        samples=config.samples,
        trials=config.trials,
        progress=sys.stderr.isatty(),
        **protocol,
    )
    listed = ", ".join(by_name) if len(by_name) < MANY else f"{len(by_name)} systems"
    title = f"{listed} on {split} of {trained.names.get('data', 'a corpus')}, {search_name} search"
    summary = summarise(title, by_name, found, [*notes, *warn(by_name)])
    out = Path(config.out or os.path.join(shared, "compare"))
    write_comparison(out, summary, by_name, references)
    print(html.unescape((out / "compare.md").read_text(encoding="utf-8")))
    print(f"report: {out / 'compare.md'}\npage:   {out / 'compare.html'}")
    return summary


def short(names: dict[str, str]) -> dict[str, str]:
    """The names without what all begin with, up to a slash or a hyphen (but not one of 1e-3)."""
    prefix = os.path.commonprefix(list(names.values()))  # noqa: RUF071  (of characters: that is meant)
    ends = [found.end() for found in re.finditer("[/-]", prefix)]
    exponents = {n for n in ends for one in names.values() if re.match(r"-\d", one[n - 1 :])}
    cut = max({0, *ends} - exponents)
    return {key: name[cut:] for key, name in names.items()}
