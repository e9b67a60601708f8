"""A comparison of runs in numbers: means over seeds, fairness, curves, and warnings."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from heed.comparison.significance import Difference
from heed.errors import UserError
from heed.evaluation.metrics import METRICS
from heed.files.checksums import read_json
from heed.run.directory import Run
from heed.run.identity import differing, flat, relevant

ENOUGH_SEEDS = 3
MANY = 3  # runs: a note does not name more


@dataclass
class Evaluated:
    """A finished run with one of its evaluations."""

    path: Path
    system: str  # equal for runs that differ only in the seed
    seed: int
    config: dict[
        str, Any
    ]  # what determines its weights, without the seed; digests of the corpus and of the user's code
    record: dict[str, Any]  # its training.json
    logged: list[dict[str, float]]  # its metrics.jsonl
    metrics: dict[str, Any]  # metrics.json of the evaluation
    hypotheses: list[str]
    sentences: Path

    @classmethod
    def load(cls, run: Run, evaluation: Path, system: str) -> "Evaluated":
        """Read the files of a run and of an evaluation."""
        trained = run.config()
        text = json.dumps(read_json(run.corpus_file).get("corpus"), sort_keys=True)
        record = run.record()
        code = {group: digest[:12] for group, digest in record.get("code", {}).items()}
        config = relevant(trained) | {"corpus": hashlib.sha256(text.encode()).hexdigest()[:12], "code": code}
        del config["seed"]
        return cls(
            run.path,
            system,
            trained.seed,
            config,
            record,
            run.metrics(record.get("lines", 0)),
            read_json(evaluation / "metrics.json"),
            (evaluation / "hypotheses.txt").read_text(encoding="utf-8").split("\n")[:-1],
            evaluation / "sentences.jsonl",
        )

    @property
    def tokens_per_second(self) -> float | None:
        """The training speed: the median of the logged speeds."""
        logged = [line["train/tokens_per_second"] for line in self.logged if "train/tokens_per_second" in line]
        return median(logged) if logged else None


def systems_of(runs: Sequence[Evaluated]) -> dict[str, list[Evaluated]]:
    """Return the runs of each system, sorted by seed.

    Raises `UserError` if a system has two runs of a seed, or runs that differ in more than the seed.
    """
    found: dict[str, list[Evaluated]] = {}
    for run in sorted(runs, key=lambda run: (run.system, run.seed)):
        others = found.setdefault(run.system, [])
        if any(other.seed == run.seed for other in others):
            raise UserError(f"{run.path} is a second run of {run.system} with seed {run.seed}: name one of them")
        if others and others[0].config != run.config:
            keys = ", ".join(key for key, *_ in differing(others[0].config, run.config))
            raise UserError(
                f"{run.path} and {others[0].path} differ in more than the seed, in {keys}: compare them apart"
            )
        others.append(run)
    return found


def refuse_different_metrics(runs: Sequence[Evaluated]) -> None:
    """Raise `UserError`, naming two runs and both signatures, if a metric was computed in different ways."""
    for key, label in METRICS.items():
        first, expected = runs[0], runs[0].metrics[key]["signature"]
        for run in runs[1:]:
            if (signature := run.metrics[key]["signature"]) != expected:
                raise UserError(
                    f"{label} of {run.path} has the signature {signature}, but of {first.path} {expected}. Compare "
                    "runs with the same metrics. If only the version differs, remove the older evaluation"
                )


def warn(systems: Mapping[str, Sequence[Evaluated]]) -> list[str]:
    """Return notes for the reader: configurations that differ beyond the score, arithmetic, and missing seeds."""
    warnings = []
    others = [key for key in configurations(systems) if not key.startswith(("score.", "code.score"))]
    if others:
        warnings.append(f"the systems differ in more than the score: {', '.join(others)} (see the table below)")
    warnings += arithmetic_notes(systems)
    few = [name for name, runs in systems.items() if len(runs) < ENOUGH_SEEDS]
    if few:
        warnings.append(f"too few seeds for a claim about a score: fewer than {ENOUGH_SEEDS} of {', '.join(few)}")
    for one, other in combinations(systems, 2):
        if not {run.seed for run in systems[one]} & {run.seed for run in systems[other]}:
            warnings.append(f"{one} and {other} have no seed in common, so their difference is not tested")
    seeds = {seed for runs in systems.values() for seed in (run.seed for run in runs)}
    for name, runs in systems.items():
        if missing := seeds - {run.seed for run in runs}:
            warnings.append(
                f"{name} has no run of seed {', '.join(map(str, sorted(missing)))}: tests are over common seeds"
            )
    return warnings


def arithmetic_notes(systems: Mapping[str, Sequence[Evaluated]]) -> list[str]:
    """Return notes on runs that were computed in different arithmetics, or that changed theirs when resumed."""
    notes = []
    paths: dict[str, list[str]] = {}
    for run in (run for runs in systems.values() for run in runs):
        parts = run.record.get("arithmetic", [])
        described = [describe_arithmetic(part) for part in parts]
        for one in dict.fromkeys(described):
            paths.setdefault(one, []).append(str(run.path))
        changes = [
            f"{now} from step {part['step']:,}"
            for before, now, part in zip(described, described[1:], parts[1:], strict=False)
            if now != before
        ]
        if changes:
            notes.append(f"the arithmetic of {run.path} changed: {described[0]}, then {', then '.join(changes)}")
    if len(paths) > 1:
        listed = "; ".join(f"{one}: {_listed(where)}" for one, where in sorted(paths.items()))
        notes.append(f"the runs were not all computed in the same arithmetic. {listed}")
    return notes


def describe_arithmetic(part: Mapping[str, Any]) -> str:
    """Return what a part of a run was computed with, in words. Threads and torch's version are left out."""
    words = [f"{part['precision']} on {part['device']}"]
    words += ["compiled"] if part["compiled"] else []
    words += ["reference computations (fast=false)"] if part["reference"] else []
    return ", ".join(words)


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - MANY} more" if len(paths) > MANY else ""
    return ", ".join(paths[:MANY]) + more


def configurations(systems: Mapping[str, Sequence[Evaluated]]) -> dict[str, dict[str, Any]]:
    """Return the keys in which systems differ, with each system's value, or None if it has no such key."""
    configs = {name: flat(runs[0].config) for name, runs in systems.items()}
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    return {
        key: {name: config.get(key) for name, config in configs.items()}
        for key in keys
        if len({repr(config.get(key)) for config in configs.values()}) > 1
    }


def identical(systems: Mapping[str, Sequence[Evaluated]], key: str) -> bool | None:
    """Return True if all runs of a seed have the same value in their record.

    Returns None if a value is missing, or if no seed is common to two systems.
    """
    values: dict[int, list[Any]] = {}
    for runs in systems.values():
        for run in runs:
            values.setdefault(run.seed, []).append(run.record.get(key))
    common = [found for found in values.values() if len(found) > 1]
    if not common or any(None in found for found in common):
        return None
    return all(len(set(found)) == 1 for found in common)


def mean_and_sd(values: Sequence[float | None]) -> dict[str, float | None]:
    """Return the mean and the sample standard deviation (None for one value). Both are None if a value is missing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return {"mean": None, "sd": None}
    return {"mean": mean(known), "sd": stdev(known) if len(known) > 1 else None}


def summarise(
    title: str,
    systems: Mapping[str, Sequence[Evaluated]],
    found: Sequence[Difference],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Return the content of `compare.json`."""
    return {
        "title": title,
        "notes": list(notes),
        "systems": {name: _summary(runs) for name, runs in systems.items()},
        "differences": [vars(one) for one in found],
        "fairness": {
            "same_batches": identical(systems, "batches"),
            "same_initial_weights": identical(systems, "initial_weights"),
            "configurations": configurations(systems),
        },
        "signatures": {key: next(iter(systems.values()))[0].metrics[key]["signature"] for key in METRICS},
    }


def _summary(runs: Sequence[Evaluated]) -> dict[str, Any]:
    curves = [{line["step"]: line["val/bleu"] for line in run.logged if "val/bleu" in line} for run in runs]
    steps = sorted(set.intersection(*map(set, curves)))
    lengths = {row["length"]: row["sentences"] for row in runs[0].metrics["bleu_by_length"]}
    by_length = [{row["length"]: row["bleu"] for row in run.metrics["bleu_by_length"]} for run in runs]
    agreements = [run.metrics["agreement_by_offset"] for run in runs]
    return {
        "runs": [str(run.path) for run in runs],
        "seeds": [run.seed for run in runs],
        **{key: mean_and_sd([run.metrics[key]["value"] for run in runs]) for key in METRICS},
        "perplexity": mean_and_sd([run.metrics["perplexity"] for run in runs]),
        "attention_entropy": mean_and_sd([run.metrics["alignment_entropy"] for run in runs]),
        "aer_by_offset": {
            offset: mean_and_sd([one.get(offset, {}).get("aer") for one in agreements])
            for offset in dict.fromkeys(offset for one in agreements for offset in one)
        },
        "bleu_by_length": {length: mean(one[length] for one in by_length) for length in lengths},
        "sentences_by_length": lengths,
        "validation_bleu": {step: mean(curve[step] for curve in curves) for step in steps},
        "score_parameters": runs[0].record.get("score_parameters"),
        "parameters": runs[0].record.get("parameters"),
        "training_tokens_per_second": mean_and_sd([run.tokens_per_second for run in runs]),
        "sentences_per_second": mean_and_sd([run.metrics["sentences_per_second"] for run in runs]),
        "peak_memory": mean_and_sd([run.record.get("peak_memory") for run in runs]),
    }
