"""Compare runs: what `scripts/compare.py` and the end of a multirun do."""

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

from heed.comparison.report import write_comparison
from heed.comparison.significance import Output, differences
from heed.comparison.summary import (
    Evaluated,
    refuse_different_metrics,
    summarise,
    systems_of,
    warn,
)
from heed.config.components import build_corpus
from heed.config.schema import CompareConfig, EvaluateConfig, MetricSettings, TrainConfig, search_over
from heed.errors import UserError
from heed.evaluation.evaluate import evaluation_name, find_or_evaluate
from heed.files.atomic import writing
from heed.run.directory import Run
from heed.run.loading import read_pairs
from heed.search.settings import SearchSettings

MANY = 5  # systems: a title does not name more


def compare(config: CompareConfig, search_name: str, overridden: bool = False) -> dict[str, Any]:
    """Report on the runs that `config.runs` names: directories or patterns. Returns the content of `compare.json`."""
    text = str(config.runs)  # one name with spaces, or several names
    patterns = config.runs if isinstance(config.runs, list) else [text] if glob(text) else text.split()
    if not patterns:
        raise UserError("runs names no run: give run directories, or patterns of them")
    paths: set[str] = set()
    for pattern in map(str, patterns):
        found = {os.path.relpath(path) for path in glob(pattern) if Run(path).config_file.exists()}
        if not found:
            raise UserError(f"no run directory is named by {pattern}: give directories that hold a config.yaml")
        paths |= found
    return compare_runs(sorted(paths), config, search_name, overridden)


def compare_runs(
    paths: Sequence[str],
    config: CompareConfig,
    search_name: str,
    overridden: bool = False,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Report on these run directories. Returns the content of `compare.json`.

    Runs whose training has not finished are left out, with a note. Search settings that are None are the runs' own. An
    evaluation that is missing, or was made in another way, is made.

    Raises:
        UserError: no run has finished, or test sentences, searches or metrics differ.
    """
    finished = [path for path in paths if Run(path).finished]
    unfinished = (path for path in paths if path not in finished)
    notes = [*notes, *(f"left out, since its training has not finished: {path}" for path in unfinished)]
    if not finished:
        raise UserError("nothing to compare; " + "; ".join(notes))
    configs = {path: Run(path).config() for path in finished}
    trained = configs[finished[0]]
    search = common_search(configs, config.search)
    splits, pairs = common_sentences(configs, config.split)
    names, shared = name_systems(configs)
    if not config.out and Path(shared).resolve() == Path("/"):
        raise UserError("the runs have no directory in common but /: name one for the report, as in out=compare")
    out = Path(config.out or os.path.join(shared, "compare"))
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    metrics = MetricSettings(None, None, trained.metrics.bootstrap)
    evaluations = {
        path: EvaluateConfig(path, "best", splits[path], asdict(search), metrics, config.device) for path in finished
    }
    runs = []
    for path, evaluation in evaluations.items():
        directory, _ = find_or_evaluate(evaluation, search_name, configs[path], pairs, overridden)
        runs.append(Evaluated.load(Run(path), directory, names[path]))
    refuse_different_metrics(runs)
    by_name = systems_of(runs)
    references = [target for _, target in pairs]
    found = differences(
        {
            name: {run.seed: Output(run.hypotheses, run.metrics["bleu"]["value"]) for run in of_system}
            for name, of_system in by_name.items()
        },
        references,
        samples=config.samples,
        trials=config.trials,
        progress=sys.stderr.isatty(),
        **trained.metrics.protocol,
    )
    listed = ", ".join(by_name) if len(by_name) < MANY else f"{len(by_name)} systems"
    searched = evaluation_name(evaluations[finished[0]], search_name, overridden, trained)
    title = f"{listed} on {splits[finished[0]]} of {trained.names.get('data', 'a corpus')}, {searched} search"
    summary = summarise(title, by_name, found, [*notes, *warn(by_name)])
    write_comparison(out, summary, by_name, references)
    print(html.unescape((out / "compare.md").read_text(encoding="utf-8")))
    print(f"report: {out / 'compare.md'}\npage:   {out / 'compare.html'}")
    return summary


def common_search(configs: dict[str, TrainConfig], given: dict[str, Any]) -> SearchSettings:
    """Return the search that is given, completed by the runs' own. Raises `UserError` if the results differ."""
    searches = {path: search_over(given, trained.search) for path, trained in configs.items()}
    first = next(iter(searches))
    for path, search in searches.items():
        if search != searches[first]:
            raise UserError(
                f"{first} and {path} were trained with different searches: name one for all, such as search=beam"
            )
    return searches[first]


def common_sentences(
    configs: dict[str, TrainConfig], split: str | None
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return each run's name of the split, and its pairs. Raises `UserError` if the pairs differ."""
    names, found = {}, dict[str, list[tuple[str, str]]]()  # pairs by corpus and split, which are read once
    for path, trained in configs.items():
        corpus = build_corpus(trained.data)
        names[path] = corpus.resolve(split or trained.test_split)
        key = json.dumps([trained.data, names[path]], sort_keys=True)
        if key not in found:
            found[key] = read_pairs(corpus, names[path])
        first = next(iter(configs))
        if found[key] != next(iter(found.values())):
            raise UserError(
                f"{path} ({names[path]}) and {first} ({names[first]}) have different test sentences: compare them apart"
            )
    return names, next(iter(found.values()))


def name_systems(configs: dict[str, TrainConfig]) -> tuple[dict[str, str], str]:
    """Return the name of each run's system, and the directory that holds all systems.

    Runs `seed<k>` in one directory are one system.
    """
    absolute = {path: Path(os.path.abspath(path)) for path in configs}
    systems = {path: one.parent if one.name == f"seed{configs[path].seed}" else one for path, one in absolute.items()}
    shared = os.path.relpath(os.path.commonpath([system.parent for system in systems.values()]))
    return short({path: os.path.relpath(system, shared) for path, system in systems.items()}), shared


def short(names: dict[str, str]) -> dict[str, str]:
    """Return the names without their common beginning, up to a slash or a hyphen, but not the hyphen of 1e-3."""
    if len(set(names.values())) == 1:  # then the last part of the name
        return {key: name.rpartition("/")[2] for key, name in names.items()}
    prefix = os.path.commonprefix(list(names.values()))  # noqa: RUF071  (by characters, on purpose)
    ends = [found.end() for found in re.finditer("[/-]", prefix)]
    exponents = {n for n in ends for one in names.values() if re.match(r"-\d", one[n - 1 :])}
    cut = max({0, *ends} - exponents)
    return {key: name[cut:] for key, name in names.items()}
