"""Write a comparison: a report with tables and curves, a page with all sentences, and the numbers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heed.alignment.heatmap import save_png
from heed.comparison.summary import Evaluated
from heed.evaluation.markdown import escape, section
from heed.evaluation.metrics import METRICS
from heed.files.atomic import write_text
from heed.files.locks import locked
from heed.page.page import Chart, Table, write_page
from heed.page.sentences import Shown, load_sentences

LEVEL = 0.05
ENOUGH_SENTENCES = 30  # of one length, for a point of a curve
WIDEST_ROW = 120  # characters in a row of the legend
MIB = 2**20


def write_comparison(
    directory: Path,
    summary: dict[str, Any],
    systems: Mapping[str, Sequence[Evaluated]],
    references: Sequence[str],
) -> None:
    """Write `compare.html`, `compare.md` with `curves.png`, and `compare.json`. Sentences are of each first seed."""
    source_words, shown = _sentences(systems)
    with locked(directory / ".lock", wait=True):
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
        save_png(_figure(charts(summary)), directory / "curves.png")
        write_text(directory / "compare.md", _markdown(summary))
        content = json.dumps(summary, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
        write_text(directory / "compare.json", content)


def _sentences(
    systems: Mapping[str, Sequence[Evaluated]],
) -> tuple[list[list[str]], dict[str, list[Shown]]]:
    """Return the source words, and the translations of each system's first seed by system and seed."""
    loaded = {name: load_sentences(runs[0].sentences) for name, runs in systems.items()}
    source_words = next(iter(loaded.values()))[0]
    for own_words, _, shown in loaded.values():
        for own, words, one in zip(own_words, source_words, shown, strict=True):
            if own != words:  # another tokenizer: the weights do not belong to these words
                one.weights = np.zeros((0, 0), np.float32)
    return source_words, {f"{name}, seed {systems[name][0].seed}": shown for name, (_, _, shown) in loaded.items()}


def tables(summary: dict[str, Any]) -> list[Table]:
    """Return the report's tables in order, without empty ones."""
    systems = summary["systems"]
    all_tables = [
        _quality(systems),
        _differences(summary["differences"]),
        _by_length(systems),
        _fairness(systems, summary["fairness"]),
        _configurations(list(systems), summary["fairness"]["configurations"]),
        Table("Signatures", ["metric", "signature"], [[METRICS[k], s] for k, s in summary["signatures"].items()]),
    ]
    return [one for one in all_tables if one.rows]


def _quality(systems: dict[str, Any]) -> Table:
    offsets = list(dict.fromkeys(offset for one in systems.values() for offset in one["aer_by_offset"]))
    head = ["system", "seeds", "BLEU ↑", "chrF2 ↑", "TER ↓", "perplexity ↓", "attention entropy"]
    rows = [
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
    note = (
        "Mean ± standard deviation over seeds. Perplexity is for each piece of the references. Attention entropy is 0 "
        "if all weight is on one piece, and 1 if all weights are equal."
    )
    if offsets:
        note += " AER is the alignment error rate against gold links, at each offset (in pieces)."
    return Table("Quality", [*head, *(f"AER % at {offset} ↓" for offset in offsets)], rows, note)


def _differences(pairs: list[dict[str, Any]]) -> Table:
    head = ["", "BLEU", "p, bootstrap", "p, randomisation", f"both below {LEVEL}"]
    rows = [
        [
            f"{one['systems'][1]} against {one['systems'][0]}",
            f"{round(one['bleu'], 2) + 0.0:+.2f}",  # never -0.00
            _p_value(one["bootstrap"]),
            _p_value(one["randomisation"]),
            "yes" if max(one["bootstrap"], one["randomisation"]) < LEVEL else "no",
        ]
        for one in pairs
    ]
    note = (
        "Paired tests over the sentences, each with its translations of all common seeds. The p-values are corrected "
        "for the number of pairs (Holm). The tests say whether the difference would hold for other sentences. Only "
        "more seeds can say whether it would hold for other seeds."
    )
    return Table("Differences in BLEU", head, rows, note)


def _by_length(systems: dict[str, Any]) -> Table:
    lengths = next(iter(systems.values()))["sentences_by_length"]
    rows = [[name, *(f"{one['bleu_by_length'][length]:.2f}" for length in lengths)] for name, one in systems.items()]
    head = [f"{length} ({number})" for length, number in lengths.items()]
    return Table("BLEU by source length", ["words (sentences)", *head], rows, "Mean over seeds.")


def _fairness(systems: dict[str, Any], fairness: dict[str, Any]) -> Table:
    head = ["system", "parameters of the score", "of all"]
    head += ["training, target tokens/s", "decoding, sentences/s", "peak memory, MiB"]
    rows = [
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
    note = (
        f"{_same(fairness['same_batches'], 'the batches of the first epoch')} "
        f"{_same(fairness['same_initial_weights'], 'all initial weights outside the score')} "
        "Speeds were measured when each run was made. They depend on what else the machine did."
    )
    return Table("Fairness", head, rows, note)


def _configurations(names: list[str], configurations: dict[str, dict[str, Any]]) -> Table:
    rows = [
        [key, *("–" if value is None else str(value) for value in values.values())]
        for key, values in configurations.items()
    ]
    return Table("What differs in the configurations", ["key", *names], rows, "Without seeds.")


def _same(value: bool | None, what: str) -> str:
    if value is None:
        return f"It is unknown whether {what} were identical: no record, or no seed common to two systems."
    return f"For each seed, {what} were {'identical' if value else 'NOT IDENTICAL'} in all systems with that seed."


def charts(summary: dict[str, Any]) -> list[Chart]:
    """Return the learning curves, and BLEU by source length for lengths with enough sentences."""
    systems = summary["systems"].items()
    learning = {name: [(float(step), bleu) for step, bleu in one["validation_bleu"].items()] for name, one in systems}
    lengths = {
        name: [
            (float(length.rstrip("+").split("-")[0]), bleu)
            for length, bleu in one["bleu_by_length"].items()
            if one["sentences_by_length"][length] >= ENOUGH_SENTENCES
        ]
        for name, one in systems
    }
    return [
        Chart("Learning", "updates", "validation BLEU", learning),
        Chart(
            "BLEU by source length",
            f"source words, at least (lengths with {ENOUGH_SENTENCES} sentences or more)",
            "BLEU",
            lengths,
        ),
    ]


def _figure(drawn: Sequence[Chart]) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, chart in zip(figure.subplots(1, len(drawn)), drawn, strict=True):
        for (name, points), marker in zip(chart.lines.items(), "osD^v<>PX" * len(chart.lines), strict=False):
            xs, ys = zip(*points, strict=True) if points else ((), ())
            axes.plot(xs, ys, marker=marker, markersize=4, label=name.replace("$", r"\$"))
        axes.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # numbers of updates or words
        if not any(chart.lines.values()):
            axes.set(xticks=[], yticks=[])
            axes.text(0.5, 0.5, "There are no points to draw.", ha="center", transform=axes.transAxes)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    widest = max(len(name) for chart in drawn for name in chart.lines) + 6  # with the sample of its line
    columns = max(1, min(5, WIDEST_ROW // widest))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _markdown(summary: dict[str, Any]) -> str:
    blocks = [f"# Comparison: {escape(summary['title'])}"]
    blocks += [f"> **Note:** {escape(note)}" for note in summary["notes"]]
    blocks += map(section, tables(summary))
    blocks += ["## Curves", "![Learning curves, and BLEU by source length](curves.png)"]
    return "\n\n".join(blocks) + "\n"


def _spread(value: dict[str, float | None], digits: int = 2, factor: float = 1) -> str:
    if value.get("mean") is None:
        return "–"
    shown = [f"{part * factor:,.{digits}f}" for part in (value["mean"], value["sd"]) if part is not None]
    return " ± ".join(shown)


def _p_value(value: float) -> str:
    return f"{value:.4f}" if value >= 5e-5 else "<0.0001"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
