"""A comparison of runs as a report: means over seeds, paired tests, what makes it fair or unfair, curves, sentences."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np

from heed.evaluation.heatmap import save_png
from heed.evaluation.page import Chart, Shown, Table, load_sentences, write_page
from heed.evaluation.report import escape, flat, table
from heed.evaluation.significance import Difference
from heed.files import write
from heed.run import Run, relevant

METRICS = {"bleu": "BLEU", "chrf": "chrF2", "ter": "TER"}
ENOUGH_SEEDS = 3
LEVEL = 0.05
MIB = 2**20


@dataclass
class Evaluated:
    """A finished run and one evaluation of it."""

    path: Path
    system: str  # the same for runs that differ in their seed alone
    seed: int
    config: dict[str, Any]  # what decides its weights, but for the seed
    facts: dict[str, Any]  # its training.json, empty for runs that are older than that
    logged: list[dict[str, float]]  # its metrics.jsonl
    scores: dict[str, Any]  # scores.json of the evaluation
    hypotheses: list[str]
    sentences: Path

    @classmethod
    def load(cls, run: Run, evaluation: Path, system: str) -> "Evaluated":
        """Reads what the run and the directory of its evaluation hold."""
        trained = run.config()
        config = relevant(trained)
        del config["seed"]
        lines = run.metrics_file.read_text(encoding="utf-8").split("\n") if run.metrics_file.exists() else []
        return cls(
            run.path,
            system,
            trained.seed,
            config,
            run.facts(),
            [json.loads(line) for line in lines if line],
            json.loads((evaluation / "scores.json").read_text(encoding="utf-8")),
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
    """The runs of each system, by seed. `ValueError` where a system has a seed twice, or runs that differ in more."""
    found: dict[str, list[Evaluated]] = {}
    for run in sorted(runs, key=lambda run: (run.system, run.seed)):
        others = found.setdefault(run.system, [])
        if any(other.seed == run.seed for other in others):
            raise ValueError(
                f"{run.path} is a second run of {run.system} with seed {run.seed}: name one of them"
            )
        if others and others[0].config != run.config:
            raise ValueError(
                f"{run.path} and {others[0].path} differ in more than the seed: compare them apart"
            )
        others.append(run)
    return found


def refuse_different_measures(runs: Sequence[Evaluated]) -> None:
    """`ValueError` where a metric was not measured in the same way for all, naming two runs and both signatures."""
    for key, label in METRICS.items():
        first, expected = runs[0], runs[0].scores[key]["signature"]
        for run in runs[1:]:
            if (signature := run.scores[key]["signature"]) != expected:
                raise ValueError(
                    f"{label} of {run.path} is {signature}, of {first.path} {expected}: evaluate them in the same way "
                    "(metrics.tokenize, metrics.lowercase, metrics.bootstrap), or compare them apart"
                )


def warn(systems: Mapping[str, Sequence[Evaluated]]) -> list[str]:
    """What a reader must know: where configurations differ beyond score and seed, and where seeds are too few."""
    warnings = []
    others = [key for key in configurations(systems) if not key.startswith("score.")]
    if others:
        warnings.append(
            f"the systems differ beyond their scores, in {', '.join(others)}: the table below says how"
        )
    few = [name for name, runs in systems.items() if len(runs) < ENOUGH_SEEDS]
    if few:
        warnings.append(
            f"too few seeds for a claim about a score: less than {ENOUGH_SEEDS} of {', '.join(few)}"
        )
    seeds = {seed for runs in systems.values() for seed in (run.seed for run in runs)}
    for name, runs in systems.items():
        if missing := seeds - {run.seed for run in runs}:
            warnings.append(
                f"{name} has no run of seed {', '.join(map(str, sorted(missing)))}; pairs are of common seeds"
            )
    return warnings


def configurations(systems: Mapping[str, Sequence[Evaluated]]) -> dict[str, dict[str, Any]]:
    """The keys in which systems differ, with what each has; None where it has no such key."""
    configs = {name: dict(flat(runs[0].config)) for name, runs in systems.items()}
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
            values.setdefault(run.seed, []).append(run.facts.get(fact))
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
        "signatures": {key: next(iter(systems.values()))[0].scores[key]["signature"] for key in METRICS},
    }


def _summary(runs: Sequence[Evaluated]) -> dict[str, Any]:
    curves = [{line["step"]: line["val/bleu"] for line in run.logged if "val/bleu" in line} for run in runs]
    steps = sorted(set.intersection(*map(set, curves)))
    lengths = {row["length"]: row["sentences"] for row in runs[0].scores["bleu_by_length"]}
    by_length = [{row["length"]: row["bleu"] for row in run.scores["bleu_by_length"]} for run in runs]
    agreements = [run.scores.get("agreement_by_offset", {}) for run in runs]
    return {
        "runs": [str(run.path) for run in runs],
        "seeds": [run.seed for run in runs],
        **{key: mean_and_sd([run.scores[key]["score"] for run in runs]) for key in METRICS},
        "perplexity": mean_and_sd([run.scores.get("perplexity") for run in runs]),
        "attention_entropy": mean_and_sd([run.scores["alignment_entropy"] for run in runs]),
        "aer_by_offset": {
            offset: mean_and_sd([one.get(offset, {}).get("aer") for one in agreements])
            for offset in dict.fromkeys(offset for one in agreements for offset in one)
        },
        "bleu_by_length": {length: mean(one[length] for one in by_length) for length in lengths},
        "sentences_by_length": lengths,
        "validation_bleu": {step: mean(curve[step] for curve in curves) for step in steps},
        "score_parameters": runs[0].facts.get("score_parameters"),
        "parameters": runs[0].facts.get("parameters"),
        "training_tokens_per_second": mean_and_sd([run.tokens_per_second for run in runs]),
        "sentences_per_second": mean_and_sd([run.scores["sentences_per_second"] for run in runs]),
        "peak_memory": mean_and_sd([run.facts.get("peak_memory") for run in runs]),
    }


def write_comparison(
    directory: Path,
    summary: dict[str, Any],
    systems: Mapping[str, Sequence[Evaluated]],
    references: Sequence[str],
) -> None:
    """Writes `compare.json`, `compare.md` with `curves.png`, and `compare.html`, the sentences of each first seed."""
    directory.mkdir(parents=True, exist_ok=True)
    content = json.dumps(summary, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    write(directory / "compare.json", lambda path: path.write_text(content, encoding="utf-8"))
    save_png(_figure(charts(summary)), directory / "curves.png")
    text = _markdown(summary)
    write(directory / "compare.md", lambda path: path.write_text(text, encoding="utf-8"))
    source_words, shown = _sentences(systems)
    write_page(
        directory / "compare.html",
        title=summary["title"],
        source_words=source_words,
        references=references,
        systems=shown,
        notes=summary["notes"],
        tables=tables(summary),
        charts=charts(summary),
    )


def _sentences(
    systems: Mapping[str, Sequence[Evaluated]],
) -> tuple[list[list[str]], dict[str, list[Shown]]]:
    """Source words, and each system's translations with its first seed."""
    loaded = {name: load_sentences(runs[0].sentences) for name, runs in systems.items()}
    source_words = next(iter(loaded.values()))[0]
    for own_words, _, shown in loaded.values():
        for own, words, one in zip(own_words, source_words, shown, strict=True):
            if own != words:  # by another tokenizer: its weights have no place under these words
                one.weights = np.zeros((0, 0), np.float32)
    return source_words, {name: shown for name, (_, _, shown) in loaded.items()}


def tables(summary: dict[str, Any]) -> list[Table]:
    """The report's tables, in order."""
    systems = summary["systems"]
    offsets = list(dict.fromkeys(offset for one in systems.values() for offset in one["aer_by_offset"]))
    quality = [
        [
            name,
            ", ".join(map(str, one["seeds"])),
            *(_spread(one[key]) for key in METRICS),
            _spread(one["perplexity"]),
            _spread(one["attention_entropy"], 3),
            *(_spread(one["aer_by_offset"].get(offset, {}), 1, 100) for offset in offsets),
        ]
        for name, one in systems.items()
    ]
    pairs = [
        [
            f"{one['systems'][1]} against {one['systems'][0]}",
            f"{one['bleu']:+.2f}",
            f"{one['bootstrap']:.4f}",
            f"{one['randomisation']:.4f}",
            "yes" if max(one["bootstrap"], one["randomisation"]) < LEVEL else "no",
        ]
        for one in summary["differences"]
    ]
    lengths = next(iter(systems.values()))["sentences_by_length"]
    by_length = [
        [name, *(f"{one['bleu_by_length'][length]:.2f}" for length in lengths)]
        for name, one in systems.items()
    ]
    costs = [
        [
            name,
            _count(one["score_parameters"]),
            _count(one["parameters"]),
            _spread(one["training_tokens_per_second"], 0),
            _spread(one["sentences_per_second"], 1),
            _spread(one["peak_memory"], 0, 1 / MIB),
        ]
        for name, one in systems.items()
    ]
    fairness = summary["fairness"]
    keys = [
        [key, *("–" if value is None else str(value) for value in values.values())]
        for key, values in fairness["configurations"].items()
    ]
    signatures = [[METRICS[key], signature] for key, signature in summary["signatures"].items()]
    return [
        Table(
            "Quality",
            ["system", "seeds", "BLEU ↑", "chrF2 ↑", "TER ↓", "perplexity ↓", "attention entropy"]
            + [f"AER % at {offset} ↓" for offset in offsets],
            quality,
            "Mean ± standard deviation over seeds. Perplexity is for each piece of the references. Entropy: 0 looks at "
            "one piece, 1 at all alike."
            + (" AER: alignment error rate against gold links, as if attention were late by that much."
               if offsets else ""),
        ),
        Table(
            "Differences in BLEU",
            ["", "BLEU", "p, bootstrap", "p, randomisation", f"both below {LEVEL}"],
            pairs,
            "Paired tests on the sentences, each with its translations of all seeds that both have, corrected after "
            "Holm for the number of pairs. They say whether other sentences would tell these runs apart; whether other "
            "seeds would, only more seeds can say.",
        ),
        Table("BLEU by source length", ["words", *lengths], by_length, "Mean over seeds."),
        Table(
            "Fairness",
            ["system", "parameters of the score", "of all", "training, target tokens/s", "decoding, sentences/s",
             "peak memory, MiB"],
            costs,
            f"{_same(fairness['same_batches'], 'the batches of the first epoch')} "
            f"{_same(fairness['same_initial_weights'], 'all initial weights outside the score')} "
            "Speeds are of when each run was made, on whatever else the machine did then.",
        ),
        Table("What differs in the configurations", ["key", *systems], keys, "Seeds aside."),
        Table("Signatures", ["metric", "signature"], signatures),
    ]  # fmt: skip


def _same(value: bool | None, what: str) -> str:
    if value is None:
        return (
            f"Whether {what} were the same is not known: not recorded, or no seed is common to two systems."
        )
    return (
        f"For each seed, {what} were {'identical' if value else 'NOT THE SAME'} in all systems that have it."
    )


def charts(summary: dict[str, Any]) -> list[Chart]:
    """Learning curves, and BLEU by source length."""
    systems = summary["systems"].items()
    learning = {
        name: [(float(step), bleu) for step, bleu in one["validation_bleu"].items()] for name, one in systems
    }
    lengths = {
        name: [
            (float(length.rstrip("+").split("-")[0]), bleu) for length, bleu in one["bleu_by_length"].items()
        ]
        for name, one in systems
    }
    return [
        Chart("Learning", "updates", "validation BLEU", learning),
        Chart("BLEU by source length", "words, from", "test BLEU", lengths),
    ]


def _figure(drawn: Sequence[Chart]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, chart in zip(figure.subplots(1, len(drawn)), drawn, strict=True):
        for (name, points), marker in zip(chart.lines.items(), "osD^v<>PX" * len(chart.lines), strict=False):
            axes.plot(*zip(*points, strict=True), marker=marker, markersize=4, label=name.replace("$", r"\$"))
        axes.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def _markdown(summary: dict[str, Any]) -> str:
    blocks = [f"# Comparison: {escape(summary['title'])}"]
    blocks += [f"> **Note:** {escape(note)}" for note in summary["notes"]]
    for one in tables(summary):
        if one.rows:
            rows = [list(map(escape, row)) for row in one.rows]
            blocks += [f"## {one.title}", table(list(map(escape, one.head)), rows)]
            blocks += [escape(one.note)] if one.note else []
    blocks += ["## Curves", "![Learning curves, and BLEU by source length](curves.png)"]
    return "\n\n".join(blocks) + "\n"


def _spread(value: dict[str, float | None], digits: int = 2, factor: float = 1) -> str:
    if value.get("mean") is None:
        return "–"
    shown = [f"{part * factor:,.{digits}f}" for part in (value["mean"], value["sd"]) if part is not None]
    return " ± ".join(shown)


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
