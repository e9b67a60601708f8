"""A comparison of runs in numbers: means over seeds, what makes it fair or unfair, curves."""

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


@dataclass
class Evaluated:
    """A finished run and one evaluation of it."""

    path: Path
    system: str  # the same for runs that differ in their seed alone
    seed: int
    config: dict[str, Any]  # what decides its weights, but for the seed; of the corpus and own code, digests
    record: dict[str, Any]  # its training.json, empty for runs that are older than that
    logged: list[dict[str, float]]  # its metrics.jsonl
    metrics: dict[str, Any]  # metrics.json of the evaluation
    hypotheses: list[str]
    sentences: Path

    @classmethod
    def load(cls, run: Run, evaluation: Path, system: str) -> "Evaluated":
        """Reads what the run and the directory of its evaluation hold."""
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
        """Of training, the median of what was logged."""
        logged = [
            line["train/tokens_per_second"] for line in self.logged if "train/tokens_per_second" in line
        ]
        return median(logged) if logged else None


def systems_of(runs: Sequence[Evaluated]) -> dict[str, list[Evaluated]]:
    """The runs of each system, by seed. `UserError` where a system has a seed twice, or runs that differ in more."""
    found: dict[str, list[Evaluated]] = {}
    for run in sorted(runs, key=lambda run: (run.system, run.seed)):
        others = found.setdefault(run.system, [])
        if any(other.seed == run.seed for other in others):
            raise UserError(
                f"{run.path} is a second run of {run.system} with seed {run.seed}: name one of them"
            )
        if others and others[0].config != run.config:
            keys = ", ".join(key for key, *_ in differing(others[0].config, run.config))
            raise UserError(
                f"{run.path} and {others[0].path} differ in more than the seed, in {keys}: compare them apart"
            )
        others.append(run)
    return found


def refuse_different_measures(runs: Sequence[Evaluated]) -> None:
    """`UserError` where a metric was not measured in the same way for all, naming two runs and both signatures."""
    for key, label in METRICS.items():
        first, expected = runs[0], runs[0].metrics[key]["signature"]
        for run in runs[1:]:
            if (signature := run.metrics[key]["signature"]) != expected:
                raise UserError(
                    f"{label} of {run.path} is {signature}, of {first.path} {expected}: compare them apart where they "
                    "were trained with other metrics; where sacrebleu has changed, remove the older evaluation"
                )


def warn(systems: Mapping[str, Sequence[Evaluated]]) -> list[str]:
    """What a reader must know: where configurations differ beyond score and seed, and where seeds are too few."""
    warnings = []
    others = [key for key in configurations(systems) if not key.startswith(("score.", "code.score"))]
    if others:
        warnings.append(
            f"the systems differ beyond their scores, in {', '.join(others)}: the table below says how"
        )
    warnings += arithmetic_notes(systems)
    few = [name for name, runs in systems.items() if len(runs) < ENOUGH_SEEDS]
    if few:
        warnings.append(
            f"too few seeds for a claim about a score: less than {ENOUGH_SEEDS} of {', '.join(few)}"
        )
    for one, other in combinations(systems, 2):
        if not {run.seed for run in systems[one]} & {run.seed for run in systems[other]}:
            warnings.append(
                f"{one} and {other} have no seed in common, so no test is made of their difference"
            )
    seeds = {seed for runs in systems.values() for seed in (run.seed for run in runs)}
    for name, runs in systems.items():
        if missing := seeds - {run.seed for run in runs}:
            warnings.append(
                f"{name} has no run of seed {', '.join(map(str, sorted(missing)))}; pairs are of common seeds"
            )
    return warnings


def arithmetic_notes(systems: Mapping[str, Sequence[Evaluated]]) -> list[str]:
    """Return notes on runs that were computed in different arithmetics, or that changed theirs when resumed."""
    notes = []
    found: dict[str, list[str]] = {}
    for run in (run for runs in systems.values() for run in runs):
        ways = list(dict.fromkeys(map(describe_arithmetic, run.record.get("arithmetic", []))))
        for way in ways:
            found.setdefault(way, []).append(str(run.path))
        if len(ways) > 1:
            notes.append(f"{run.path} was continued in another arithmetic: {', then '.join(ways)}")
    if len(found) > 1:
        listed = "; ".join(f"{way}: {len(paths)} runs" for way, paths in sorted(found.items()))
        notes.append(f"not all runs were computed in one arithmetic: {listed}")
    return notes


def describe_arithmetic(part: Mapping[str, Any]) -> str:
    """Return a part of a run's record of its arithmetic in words, without the number of threads and torch's version."""
    ways = [str(part.get("device")), str(part.get("precision"))]
    ways += [name for name in ("compiled", "reference") if part.get(name)]
    return ", ".join(ways)


def configurations(systems: Mapping[str, Sequence[Evaluated]]) -> dict[str, dict[str, Any]]:
    """The keys in which systems differ, with what each has; None where it has no such key."""
    configs = {name: flat(runs[0].config) for name, runs in systems.items()}
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    return {
        key: {name: config.get(key) for name, config in configs.items()}
        for key in keys
        if len({repr(config.get(key)) for config in configs.values()}) > 1
    }


def identical(systems: Mapping[str, Sequence[Evaluated]], fact: str) -> bool | None:
    """Whether runs of the same seed began with the same; None where it is not recorded, or no seed is common to two."""
    values: dict[int, list[Any]] = {}
    for runs in systems.values():
        for run in runs:
            values.setdefault(run.seed, []).append(run.record.get(fact))
    common = [found for found in values.values() if len(found) > 1]
    if not common or any(None in found for found in common):
        return None
    return all(len(set(found)) == 1 for found in common)


def mean_and_sd(values: Sequence[float | None]) -> dict[str, float | None]:
    """The mean, and the standard deviation of a sample (None for a single value); None where a value is missing."""
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
    """All that the report says, as plain values."""
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
