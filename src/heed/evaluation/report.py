"""Writes an evaluation: hypotheses, n-best list, metrics, alignments, heat maps, and a report to read."""

import platform
import random
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from heed.alignment.diagnostics import corpus_entropy
from heed.alignment.heatmap import alignment_figure, save_png
from heed.alignment.links import Agreement
from heed.alignment.store import save_alignments
from heed.alignment.words import merge_words
from heed.device import cpu_name
from heed.errors import UserError
from heed.evaluation.markdown import escape, table
from heed.evaluation.metrics import METRICS, bleu_by_length, corpus_metrics, sentence_bleu
from heed.files.atomic import replacing, write_text
from heed.files.checksums import file_digests, to_json_values, write_json
from heed.files.locks import locked
from heed.page.page import Table, write_page
from heed.page.sentences import Shown, save_sentences
from heed.run.identity import flat
from heed.text.printable import printable

if TYPE_CHECKING:
    from heed.search.translator import Translation

NUM_EXAMPLES = 5  # of the best, of the worst, and at random
NUM_HEATMAPS = 6
METRIC_HEAD = ["metric", "value", "95 % interval", "better"]
PACKAGES = ("heed", "torch", "sacrebleu", "sentencepiece", "numpy")


def write_evaluation(
    directory: Path,
    *,
    sources: Sequence[str],
    references: Sequence[str],
    translations: "Sequence[Sequence[Translation]]",
    tokenize: str = "13a",
    lowercase: bool = False,
    bootstrap: int = 1000,
    seconds: float,
    perplexity: float | None = None,
    agreements: dict[int, Agreement] | None = None,
    info: dict[str, Any],
) -> dict[str, Any]:
    """Scores the translations and writes all about them into `directory`, in place of an earlier evaluation.

    `translations` holds the n best of each line, the best first; `seconds` is what the search took; `perplexity` is of
    the references, for each of their pieces; `agreements`, by offset, is how the references' alignment agrees with gold
    links, where there are any. Of `info`, `title` heads the report, `command` is quoted, and the rest (data, split,
    search, batch, …) is listed. Returns what stands in `metrics.json`. Raises a `UserError` where the counts of lines
    differ.

    The files are `hypotheses.txt`, `n_best.tsv` (where n > 1), `metrics.json`, `alignments.npz` (see
    `load_alignments`), `page.html` with its data in `sentences.jsonl`, `report.md` and `alignments/*.png`. They are
    made in a directory beside it that takes its place when complete: `directory` never holds half an evaluation. A kill
    at the very moment of the swap leaves the earlier one as `.<name>.old`, from where the next call takes it back.
    """
    if not len(sources) == len(references) == len(translations):
        raise UserError(
            f"{len(sources)} source lines, {len(references)} references and {len(translations)} translations"
            ": every line needs one of each"
        )
    best = [n_best[0] for n_best in translations]
    hypotheses = [_one_line(translation.text) for translation in best]
    protocol: dict[str, Any] = {"tokenize": tokenize, "lowercase": lowercase}
    num_tokens = sum(len(translation.pieces) for translation in best)
    metrics: dict[str, Any] = {
        **corpus_metrics(hypotheses, references, bootstrap=bootstrap, **protocol),
        "bleu_by_length": bleu_by_length(sources, hypotheses, references, **protocol),
        "perplexity": perplexity,
        "sentences": len(sources),
        "tokens": num_tokens,
        "seconds": seconds,
        "sentences_per_second": len(sources) / max(seconds, 1e-9),
        "tokens_per_second": num_tokens / max(seconds, 1e-9),
        "alignment_entropy": corpus_entropy([translation.alignment for translation in best]),
        "agreement_by_offset": {f"{offset:+d}": one._asdict() for offset, one in (agreements or {}).items()},
        "info": to_json_values(info),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "machine": {"cpu": cpu_name(), "threads": torch.get_num_threads()},
    }
    line_bleu = sentence_bleu(hypotheses, references, **protocol)
    examples = _examples(line_bleu, [len(translation.src_pieces) for translation in best])

    with locked(directory.parent / ".lock", wait=True), replacing(directory) as new:
        (new / "alignments").mkdir()
        write_text(new / "hypotheses.txt", "".join(line + "\n" for line in hypotheses))
        if any(len(n_best) > 1 for n_best in translations):
            write_text(new / "n_best.tsv", _n_best_table(translations))
        save_alignments(new / "alignments.npz", [translation.alignment for translation in best])
        _write_page(new, metrics, references, best, line_bleu)
        pictures = _heatmaps(new, examples, best)
        blocks = [
            _head(metrics),
            *(
                _example_block(title, lines, sources, references, hypotheses, line_bleu, pictures)
                for title, lines in examples.items()
                if lines
            ),
            _foot(metrics),
        ]
        write_text(new / "report.md", "\n\n".join(blocks) + "\n")
        metrics["files"] = file_digests(new)
        write_json(new / "metrics.json", metrics)
    return metrics


def _examples(line_bleu: Sequence[float], lengths: Sequence[int]) -> dict[str, list[int]]:
    """Which lines to show; of equally good or bad ones the longest, of random ones the middle-sized first."""
    order = sorted(range(len(lengths)), key=lambda line: (-line_bleu[line], -lengths[line]))
    best = order[: min(NUM_EXAMPLES, -(-len(order) // 2))]
    rest = order[len(best) :]
    worst = sorted(rest, key=lambda line: (line_bleu[line], -lengths[line]))[:NUM_EXAMPLES]
    # Nearly the same lines for every score: drawn from all, less the few that stand elsewhere.
    shuffled = random.Random(0).sample(range(len(order)), len(order))
    drawn = [line for line in shuffled if line not in {*best, *worst}][:NUM_EXAMPLES]
    median = sorted(lengths)[len(lengths) // 2]
    drawn.sort(key=lambda line: abs(lengths[line] - median))
    return {"Random": drawn, "Best": best, "Worst": worst}


def _heatmaps(
    directory: Path, examples: dict[str, list[int]], best: "Sequence[Translation]"
) -> dict[int, str]:
    """Draws the first examples that have an alignment: line to the picture's path within the directory."""
    lines = [line for group in examples.values() for line in group if best[line].alignment.size]
    paths = {line: f"alignments/line-{line + 1}.png" for line in lines[:NUM_HEATMAPS]}
    for line, path in paths.items():
        shown = best[line]
        save_png(alignment_figure(shown.pieces, shown.src_pieces, shown.alignment), directory / path)
    return paths


def _write_page(
    directory: Path,
    metrics: dict[str, Any],
    references: Sequence[str],
    best: "Sequence[Translation]",
    line_bleu: Sequence[float],
) -> None:
    """All sentences with their alignments between words, as a page and as data."""
    source_words, shown = [], []
    for translation, bleu in zip(best, line_bleu, strict=True):
        words, of_source, weights = merge_words(
            translation.pieces, translation.src_pieces, np.asarray(translation.alignment)
        )
        source_words.append(of_source)
        shown.append(Shown(words, weights, bleu))
    save_sentences(directory / "sentences.jsonl", source_words, references, shown)
    info = metrics["info"]
    metrics_table = Table(
        "Metrics", METRIC_HEAD, _metrics(metrics), "; ".join(metrics[key]["signature"] for key in METRICS)
    )
    write_page(
        directory / "page.html",
        title=str(info.get("title", "translation")),
        source_words=source_words,
        references=references,
        systems={str(info.get("trained", {}).get("score", "translation")): shown},
        tables=[metrics_table],
    )


def _metrics(metrics: dict[str, Any]) -> list[list[str]]:
    rows = [
        [
            label,
            f"{metrics[key]['value']:.2f}",
            _interval(metrics[key]),
            "lower" if key == "ter" else "higher",
        ]
        for key, label in METRICS.items()
    ]
    if metrics["perplexity"] is not None:
        rows.append(["perplexity for each piece", f"{metrics['perplexity']:.2f}", "–", "lower"])
    return rows


def _head(metrics: dict[str, Any]) -> str:
    """Title, what was evaluated, the metrics, BLEU by length, speed."""
    bleu, info, entropy = metrics["bleu"], metrics["info"], metrics["alignment_entropy"]
    signatures = "\n".join(f"- {label}: `{metrics[key]['signature']}`" for key, label in METRICS.items())
    settings = [
        [escape(key), escape(value)] for key, value in flat(info).items() if key not in ("title", "command")
    ]
    ratio = f"{bleu['hyp_len'] / bleu['ref_len']:.3f}" if bleu["ref_len"] else "–"
    blocks = [
        f"# Evaluation: {escape(info.get('title', 'translation'))}",
        *(["## What was evaluated", table(["", ""], settings)] if settings else []),
        "## Metrics",
        table(METRIC_HEAD, _metrics(metrics)),
        f"Signatures:\n\n{signatures}",
        table(
            ["BLEU in detail", ""],
            [
                ["brevity penalty", f"{bleu['brevity_penalty']:.3f}"],
                ["length ratio", f"{ratio} ({bleu['hyp_len']} words against {bleu['ref_len']})"],
                ["precision of 1- to 4-grams", " / ".join(f"{value:.1f}" for value in bleu["precisions"])],
            ],
        ),
        "## BLEU by source length",
        table(
            ["source words", "sentences", "BLEU"],
            [[row["length"], row["sentences"], f"{row['bleu']:.2f}"] for row in metrics["bleu_by_length"]],
        ),
        "## Speed and attention",
        table(
            ["", ""],
            [
                ["sentences", metrics["sentences"]],
                ["seconds", f"{metrics['seconds']:.2f}"],
                ["sentences/s", f"{metrics['sentences_per_second']:.1f}"],
                ["target tokens/s", f"{metrics['tokens_per_second']:.1f}"],
                [
                    "normalised alignment entropy (0 sharp, 1 flat)",
                    "–" if entropy is None else f"{entropy:.3f}",
                ],
            ],
        ),
        *(_agreement(metrics["agreement_by_offset"]) if metrics["agreement_by_offset"] else []),
        "## Examples",
        "[page.html](page.html) shows all sentences with their alignments. "
        "In a heat map a row is a target token and a column a source token; white is weight 0, dark blue 1.",
    ]
    return "\n\n".join(blocks)


def _agreement(by_offset: dict[str, dict[str, float]]) -> list[str]:
    """How the attention agrees with gold word links."""
    rows = [
        [offset, *(f"{one[key]:.1%}" for key in ("aer", "precision", "recall"))]
        for offset, one in by_offset.items()
    ]
    return [
        "## Agreement with gold word links",
        "The model was made to say the references; each target word is linked with the source word that it gave most "
        "weight, and each source word left over with the target word that gave it most. At offset +1 a piece is taken "
        "to have looked where the next one did, at -1 where the one before did.",
        table(["offset", "alignment error rate", "precision", "recall"], rows),
    ]


def _example_block(
    title: str,
    lines: Sequence[int],
    sources: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    line_bleu: Sequence[float],
    pictures: dict[int, str],
) -> str:
    blocks = [f"### {title}"]
    for line in lines:
        sides = (
            ("source", sources[line]),
            ("reference", references[line]),
            ("hypothesis", hypotheses[line]),
        )
        rows = [[name, escape(text) or "*(empty)*"] for name, text in sides]
        blocks.append(table([f"line {line + 1}", f"sentence BLEU {line_bleu[line]:.1f}"], rows))
        if line in pictures:
            blocks.append(f"![Alignment of line {line + 1}]({pictures[line]})")
    return "\n\n".join(blocks)


def _foot(metrics: dict[str, Any]) -> str:
    """The command, versions and machine that made the numbers."""
    versions = [[name, escape(number)] for name, number in metrics["versions"].items()]
    machine = [[name, escape(value)] for name, value in metrics["machine"].items()]
    blocks = ["## How it was made"]
    if command := metrics["info"].get("command"):
        lines = map(printable, str(command).split("\n"))
        blocks.append("\n".join(f"    {line}" for line in lines))  # a code block by its indent
    blocks.append(table(["", ""], versions + machine))
    return "\n\n".join(blocks)


def _interval(metric: dict[str, Any]) -> str:
    return "–" if metric["low"] is None else f"{metric['low']:.2f} to {metric['high']:.2f}"


def _n_best_table(translations: "Sequence[Sequence[Translation]]") -> str:
    rows = ["line\trank\tlog_prob\ttext"]
    for line, n_best in enumerate(translations, 1):
        for rank, translation in enumerate(n_best, 1):
            text = _one_line(translation.text).replace("\t", " ")
            rows.append(f"{line}\t{rank}\t{translation.log_prob:.6f}\t{text}")
    return "\n".join(rows) + "\n"


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\r", " ")
