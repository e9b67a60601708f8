"""Compares runs that differ in their score: means over seeds, and which differences are more than chance."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from sacrebleu.significance import PairedTest

from heed.evaluation.metrics import make_bleu, sacrebleu_seed
from heed.evaluation.report import escape, table
from heed.run import differing

METRICS = {"bleu": "BLEU", "chrf": "chrF2", "ter": "TER"}
ENOUGH_SEEDS = 3
LEVEL = 0.05


@dataclass
class Evaluated:
    """One run's evaluation."""

    path: Path
    system: str  # the same for runs that differ in their seed alone
    seed: int
    scores: dict[str, Any]  # its scores.json
    hypotheses: list[str]


@dataclass
class Difference:
    """Of two systems, over the seeds that both have; p-values of BLEU, corrected for the number of pairs."""

    systems: tuple[str, str]
    seeds: list[int]
    bleu: float  # the second's mean less the first's
    bootstrap: float  # paired bootstrap resampling (Koehn 2004)
    randomisation: float  # approximate randomisation (Riezler & Maxwell 2005)


def systems_of(runs: Sequence[Evaluated]) -> dict[str, list[Evaluated]]:
    """The runs of each system, by seed. `ValueError` where a system has a seed twice."""
    found: dict[str, list[Evaluated]] = {}
    for run in sorted(runs, key=lambda run: (run.system, run.seed)):
        if any(other.seed == run.seed for other in found.setdefault(run.system, [])):
            raise ValueError(
                f"{run.path} is a second run of {run.system} with seed {run.seed}: name one of them"
            )
        found[run.system].append(run)
    return found


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation of a sample; None for a single value."""
    return mean(values), stdev(values) if len(values) > 1 else None


def warn(configs: Mapping[str, dict[str, Any]], systems: Mapping[str, Sequence[Evaluated]]) -> list[str]:
    """What a reader must know: where configurations differ beyond score and seed, and where seeds are too few."""
    warnings = []
    for first, second in combinations(configs, 2):
        others = [
            key for key, *_ in differing(configs[first], configs[second]) if key.split(".")[0] != "score"
        ]
        if others:
            warnings.append(f"{second} differs from {first} beyond its score, in {', '.join(others)}")
    for key, label in METRICS.items():
        signatures = {run.scores[key]["signature"] for runs in systems.values() for run in runs}
        if len(signatures) > 1:
            warnings.append(f"{label} was measured in different ways: {'; '.join(sorted(signatures))}")
    few = [name for name, runs in systems.items() if len(runs) < ENOUGH_SEEDS]
    if few:
        warnings.append(
            f"too few seeds for a claim about a score: less than {ENOUGH_SEEDS} of {', '.join(few)}"
        )
    return warnings


def differences(
    systems: Mapping[str, Sequence[Evaluated]],
    references: Sequence[str],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
    samples: int = 1000,
    trials: int = 10_000,
    seed: int = 12345,
) -> list[Difference]:
    """All pairs, by sacrebleu's own paired tests on the translations of all common seeds, corrected by `holm`."""
    found, p_values = [], []
    for pair in combinations(systems, 2):
        sides = [{run.seed: run for run in systems[name]} for name in pair]
        seeds = sorted(sides[0].keys() & sides[1].keys())
        if not seeds:
            continue
        texts = [[line for s in seeds for line in side[s].hypotheses] for side in sides]
        p = [
            _p_value(texts, list(references) * len(seeds), kind, number, tokenize, lowercase, seed)
            for kind, number in (("bs", samples), ("ar", trials))
        ]
        bleus = [mean(side[s].scores["bleu"]["score"] for s in seeds) for side in sides]
        found.append(Difference(pair, seeds, bleus[1] - bleus[0], *p))
        p_values.append(p)
    for number, name in enumerate(("bootstrap", "randomisation")):
        for one, corrected in zip(found, holm([p[number] for p in p_values]), strict=True):
            setattr(one, name, corrected)
    return found


def _p_value(
    texts: list[list[str]],
    references: list[str],
    kind: str,
    number: int,
    tokenize: str,
    lowercase: bool,
    seed: int,
) -> float:
    if texts[0] == texts[1]:
        return 1.0
    named: list[tuple[str, Sequence[str]]] = [("first", texts[0]), ("second", texts[1])]
    metrics = {"BLEU": make_bleu(tokenize, lowercase)}
    with sacrebleu_seed(seed):
        test = PairedTest(named, metrics, [references], test_type=kind, n_samples=number)
        return float(test()[1]["BLEU"][1].p_value)  # type: ignore[union-attr, arg-type]


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number m (Holm 1979): the i-th smallest, from 0, times m - i; rising, at most 1."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def write_comparison(
    directory: Path,
    systems: Mapping[str, Sequence[Evaluated]],
    found: Sequence[Difference],
    warnings: Sequence[str],
    title: str,
) -> dict[str, Any]:
    """Writes `compare.json` and `compare.md`; returns what stands in the first."""
    summary: dict[str, Any] = {
        "title": title,
        "warnings": list(warnings),
        "systems": {
            name: {
                "runs": [str(run.path) for run in runs],
                "seeds": [run.seed for run in runs],
                **{
                    key: dict(
                        zip(
                            ("mean", "sd"),
                            mean_and_sd([run.scores[key]["score"] for run in runs]),
                            strict=True,
                        )
                    )
                    for key in METRICS
                },
                "attention_entropy": mean(run.scores["alignment_entropy"] for run in runs),
                "aer": _mean_aer(runs),
            }
            for name, runs in systems.items()
        },
        "signatures": {
            label: sorted({run.scores[key]["signature"] for runs in systems.values() for run in runs})
            for key, label in METRICS.items()
        },
        "differences": [vars(one) for one in found],
    }
    directory.mkdir(parents=True, exist_ok=True)
    content = json.dumps(summary, ensure_ascii=False, indent=2, allow_nan=False)
    (directory / "compare.json").write_text(content + "\n", encoding="utf-8")
    (directory / "compare.md").write_text(_markdown(summary), encoding="utf-8")
    return summary


def _mean_aer(runs: Sequence[Evaluated]) -> float | None:
    rates = [run.scores.get("agreement_by_offset", {}).get("+0", {}).get("aer") for run in runs]
    return None if None in rates else mean(rates)


def _markdown(summary: dict[str, Any]) -> str:
    rows = [
        [
            escape(name),
            ", ".join(map(str, one["seeds"])),
            *(_spread(one[key]) for key in METRICS),
            f"{one['attention_entropy']:.3f}",
            "–" if one["aer"] is None else f"{one['aer']:.1%}",
        ]
        for name, one in summary["systems"].items()
    ]
    pairs = [
        [
            f"{escape(one['systems'][1])} against {escape(one['systems'][0])}",
            f"{one['bleu']:+.2f}",
            f"{one['bootstrap']:.4f}",
            f"{one['randomisation']:.4f}",
            "yes" if max(one["bootstrap"], one["randomisation"]) < LEVEL else "no",
        ]
        for one in summary["differences"]
    ]
    blocks = [f"# Comparison: {escape(summary['title'])}"]
    blocks += [f"> **Note:** {escape(warning)}" for warning in summary["warnings"]]
    blocks += [
        table(["system", "seeds", "BLEU ↑", "chrF2 ↑", "TER ↓", "attention entropy", "AER ↓"], rows),
        "Mean ± standard deviation over seeds.",
        "## Differences in BLEU",
        table(["", "BLEU", "p, bootstrap", "p, randomisation", f"both below {LEVEL}"], pairs),
        "Paired tests on the sentences of all seeds that both have, corrected after Holm for the number of pairs. They "
        "say whether other sentences would tell these runs apart; whether other seeds would, only more seeds can say.",
        "## Signatures",
        "\n".join(f"- {label}: `{', '.join(found)}`" for label, found in summary["signatures"].items()),
    ]
    return "\n\n".join(blocks) + "\n"


def _spread(value: dict[str, float | None]) -> str:
    return f"{value['mean']:.2f}" + ("" if value["sd"] is None else f" ± {value['sd']:.2f}")
