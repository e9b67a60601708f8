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

from heed.commands.evaluate import find_or_make, name_search
from heed.component import build_corpus
from heed.config import CompareConfig, EvaluateConfig, MetricSettings, TrainConfig, search_over
from heed.files import writing
from heed.loading import read_pairs
from heed.run import Run
from heed.search.settings import SearchSettings

MANY = 5  # systems: more than a title names


def compare(config: CompareConfig, search_name: str) -> dict[str, Any]:
    """Reports on the runs that `config.runs` names, directories or patterns; returns what stands in `compare.json`."""
    whole = str(config.runs)  # one name with spaces, or several
    patterns = config.runs if isinstance(config.runs, list) else [whole] if glob(whole) else whole.split()
    if not patterns:
        raise ValueError("runs names no run: give run directories, or patterns of them")
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

    finished = [path for path in paths if Run(path).finished]
    unfinished = (path for path in paths if path not in finished)
    notes = [*notes, *(f"left out, since its training has not finished: {path}" for path in unfinished)]
    if not finished:
        raise ValueError("nothing to compare; " + "; ".join(notes))
    configs = {path: Run(path).config() for path in finished}
    trained = configs[finished[0]]
    search = common_search(configs, config.search)
    splits, pairs = common_sentences(configs, config.split)
    names, shared = name_systems(configs)
    if not config.out and Path(shared).resolve() == Path("/"):
        raise ValueError(
            "the runs have no directory in common but /: name one for the report, as in out=compare"
        )
    out = Path(config.out or os.path.join(shared, "compare"))
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    runs = []
    for path in finished:
        metrics = MetricSettings(None, None, trained.metrics.bootstrap)
        evaluation = EvaluateConfig(path, "best", splits[path], asdict(search), metrics, config.device)
        directory, _ = find_or_make(evaluation, search_name, configs[path], pairs)
        runs.append(Evaluated.load(Run(path), directory, names[path]))
    refuse_different_measures(runs)
    by_name = systems_of(runs)
    references = [target for _, target in pairs]
    found = differences(
        {
            name: {run.seed: Scored(run.hypotheses, run.scores["bleu"]["score"]) for run in of_system}
            for name, of_system in by_name.items()
        },
        references,
        samples=config.samples,
        trials=config.trials,
        progress=sys.stderr.isatty(),
        **trained.metrics.protocol,
    )
    listed = ", ".join(by_name) if len(by_name) < MANY else f"{len(by_name)} systems"
    title = (
        f"{listed} on {splits[finished[0]]} of {trained.names.get('data', 'a corpus')}, "
        f"{name_search(search_name, trained)} search"
    )
    summary = summarise(title, by_name, found, [*notes, *warn(by_name)])
    write_comparison(out, summary, by_name, references)
    print(html.unescape((out / "compare.md").read_text(encoding="utf-8")))
    print(f"report: {out / 'compare.md'}\npage:   {out / 'compare.html'}")
    return summary


def common_search(configs: dict[str, TrainConfig], given: dict[str, Any]) -> SearchSettings:
    """The search that is given and that the runs share in what it leaves open; `ValueError` where they do not."""
    searches = {path: search_over(given, trained.search) for path, trained in configs.items()}
    first = next(iter(searches))
    for path, search in searches.items():
        if search != searches[first]:
            raise ValueError(
                f"{first} and {path} were trained with different searches: name one for all, such as search=beam"
            )
    return searches[first]


def common_sentences(
    configs: dict[str, TrainConfig], split: str | None
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """What each run's corpus calls the split, and its pairs; `ValueError` where they are not the same for all."""
    names, found = {}, dict[str, list[tuple[str, str]]]()  # the pairs by what they are made of
    for path, trained in configs.items():
        corpus = build_corpus(trained.data)
        names[path] = corpus.resolve(split or trained.test_split)
        key = json.dumps([trained.data, names[path]], sort_keys=True)
        if key not in found:
            found[key] = read_pairs(corpus, names[path])
        first = next(iter(configs))
        if found[key] != next(iter(found.values())):
            raise ValueError(
                f"{path} ({names[path]}) and {first} ({names[first]}) have other test sentences: compare them apart"
            )
    return names, next(iter(found.values()))


def name_systems(configs: dict[str, TrainConfig]) -> tuple[dict[str, str], str]:
    """What each run's system is called, the same for all of its seeds, and the directory that holds them all."""
    absolute = {path: Path(os.path.abspath(path)) for path in configs}
    systems = {
        path: one.parent if one.name == f"seed{configs[path].seed}" else one for path, one in absolute.items()
    }
    shared = os.path.relpath(os.path.commonpath([system.parent for system in systems.values()]))
    return short({path: os.path.relpath(system, shared) for path, system in systems.items()}), shared


def short(names: dict[str, str]) -> dict[str, str]:
    """The names without what all begin with, up to a slash or a hyphen (but not one of 1e-3)."""
    if len(set(names.values())) == 1:  # the last part of it
        return {key: name.rpartition("/")[2] for key, name in names.items()}
    prefix = os.path.commonprefix(list(names.values()))  # noqa: RUF071  (of characters: that is meant)
    ends = [found.end() for found in re.finditer("[/-]", prefix)]
    exponents = {n for n in ends for one in names.values() if re.match(r"-\d", one[n - 1 :])}
    cut = max({0, *ends} - exponents)
    return {key: name[cut:] for key, name in names.items()}
