"""Write an evaluation: hypotheses, n-best list, metrics, alignments, heat maps, a page and a report."""

import platform
import random
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heed.alignment.diagnostics import corpus_entropy
from heed.alignment.heatmap import alignment_figure, save_png
from heed.alignment.links import Agreement
from heed.alignment.store import save_alignments
from heed.alignment.words import merge_words
from heed.device import cpu_name
from heed.errors import UserError
from heed.evaluation.markdown import escape, section, table
from heed.evaluation.metrics import METRICS, bleu_by_length, corpus_metrics, sentence_bleu
from heed.files.atomic import replacing, write_text
from heed.files.checksums import file_digests, to_json_values, write_json
from heed.files.locks import locked
from heed.page.page import Table, write_page
from heed.page.sentences import Shown, save_sentences
from heed.run.identity import flat
from heed.search.translator import Translation
from heed.text.printable import printable

NUM_EXAMPLES = 5  # of the best, of the worst, and at random
NUM_HEATMAPS = 6
PACKAGES = ("heed", "torch", "sacrebleu", "sentencepiece", "numpy")


def write_evaluation(
    directory: Path,
    *,
    sources: Sequence[str],
    references: Sequence[str],
    translations: Sequence[Sequence[Translation]],
    tokenize: str = "13a",
    lowercase: bool = False,
    bootstrap: int = 1000,
    seconds: float,
    perplexity: float | None = None,
    agreements: dict[int, Agreement] | None = None,
    info: dict[str, Any],
) -> dict[str, Any]:
    """Compute the metrics of translations, and write an evaluation into `directory`, in place of an earlier one.

    The files are `hypotheses.txt`, `n_best.tsv` (if n > 1), `metrics.json`, `alignments.npz` (see `load_alignments`),
    `page.html` with its data in `sentences.jsonl`, `report.md` and `alignments/*.png`. They are written into another
    directory, which takes the place of `directory` when it is complete. If the process is killed during the swap, the
    earlier evaluation stays as `.<name>.old`, and the next call restores it.

    Args:
        directory: `eval/<split>-<search>` of a run.
        sources: One for each line.
        references: One for each line.
        translations: The n best of each line, best first.
        tokenize: See `corpus_metrics`.
        lowercase: See `corpus_metrics`.
        bootstrap: See `corpus_metrics`.
        seconds: The duration of the search.
        perplexity: Perplexity of the references for each piece.
        agreements: The agreement of the references' alignments with gold links by offset, if there are any.
        info: `title` is the report's heading, and `command` is quoted. All other entries are listed.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: the numbers of lines differ.
    """
    if not len(sources) == len(references) == len(translations):
        raise UserError(
            f"{len(sources)} source lines, {len(references)} references and {len(translations)} translations"
            ": give one of each for every line"
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
    """Return the lines to show. Of equally good or bad lines the longest come first, of random lines the median."""
    order = sorted(range(len(lengths)), key=lambda line: (-line_bleu[line], -lengths[line]))
    best = order[: min(NUM_EXAMPLES, -(-len(order) // 2))]
    rest = order[len(best) :]
    worst = sorted(rest, key=lambda line: (line_bleu[line], -lengths[line]))[:NUM_EXAMPLES]
    # The best and the worst are removed after the draw, so that every run shows nearly the same random lines.
    shuffled = random.Random(0).sample(range(len(order)), len(order))
    drawn = [line for line in shuffled if line not in {*best, *worst}][:NUM_EXAMPLES]
    median = sorted(lengths)[len(lengths) // 2]
    drawn.sort(key=lambda line: abs(lengths[line] - median))
    return {"Random": drawn, "Best": best, "Worst": worst}


def _heatmaps(directory: Path, examples: dict[str, list[int]], best: Sequence[Translation]) -> dict[int, str]:
    """Draw the first examples that have an alignment. Returns the pictures' paths in the directory by line."""
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
    best: Sequence[Translation],
    line_bleu: Sequence[float],
) -> None:
    """Write all sentences with their word alignments, as a page and as data."""
    source_words, shown = [], []
    for translation, bleu in zip(best, line_bleu, strict=True):
        words, of_source, weights = merge_words(
            translation.pieces, translation.src_pieces, np.asarray(translation.alignment)
        )
        source_words.append(of_source)
        shown.append(Shown(words, weights, bleu))
    save_sentences(directory / "sentences.jsonl", source_words, references, shown)
    info = metrics["info"]
    signatures = "; ".join(metrics[key]["signature"] for key in METRICS)
    write_page(
        directory / "page.html",
        title=str(info.get("title", "translation")),
        source_words=source_words,
        references=references,
        systems={str(info.get("trained", {}).get("score", "translation")): shown},
        tables=[replace(_metrics(metrics), note=signatures)],
    )


def _head(metrics: dict[str, Any]) -> str:
    """Return the report up to the examples: title, what was evaluated, metrics, lengths, speed, agreement."""
    info = metrics["info"]
    settings = [[key, str(value)] for key, value in flat(info).items() if key not in ("title", "command")]
    signatures = "\n".join(f"- {label}: `{metrics[key]['signature']}`" for key, label in METRICS.items())
    blocks = [
        f"# Evaluation: {escape(info.get('title', 'translation'))}",
        *([section(Table("What was evaluated", ["", ""], settings))] if settings else []),
        section(_metrics(metrics)),
        f"Signatures:\n\n{signatures}",
        table(["BLEU in detail", ""], _bleu_details(metrics["bleu"])),
        section(_by_length(metrics["bleu_by_length"])),
        section(_speed_and_attention(metrics)),
        *([section(_agreement(found))] if (found := metrics["agreement_by_offset"]) else []),
        "## Examples",
        "[page.html](page.html) shows all sentences with their alignments. In a heat map, the rows are target tokens "
        "and the columns are source tokens. White is weight 0, dark blue is weight 1.",
    ]
    return "\n\n".join(blocks)


def _metrics(metrics: dict[str, Any]) -> Table:
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
    return Table("Metrics", ["metric", "value", "95 % interval", "better"], rows)


def _interval(metric: dict[str, Any]) -> str:
    return "–" if metric["low"] is None else f"{metric['low']:.2f} to {metric['high']:.2f}"


def _bleu_details(bleu: dict[str, Any]) -> list[list[str]]:
    ratio = f"{bleu['hyp_len'] / bleu['ref_len']:.3f}" if bleu["ref_len"] else "–"
    return [
        ["brevity penalty", f"{bleu['brevity_penalty']:.3f}"],
        ["length ratio", f"{ratio} ({bleu['hyp_len']} words against {bleu['ref_len']})"],
        ["precision of 1- to 4-grams", " / ".join(f"{value:.1f}" for value in bleu["precisions"])],
    ]


def _by_length(lengths: list[dict[str, Any]]) -> Table:
    rows = [[row["length"], str(row["sentences"]), f"{row['bleu']:.2f}"] for row in lengths]
    return Table("BLEU by source length", ["source words", "sentences", "BLEU"], rows)


def _speed_and_attention(metrics: dict[str, Any]) -> Table:
    entropy = metrics["alignment_entropy"]
    rows = [
        ["sentences", str(metrics["sentences"])],
        ["seconds", f"{metrics['seconds']:.2f}"],
        ["sentences/s", f"{metrics['sentences_per_second']:.1f}"],
        ["target tokens/s", f"{metrics['tokens_per_second']:.1f}"],
        ["normalised alignment entropy (0 sharp, 1 flat)", "–" if entropy is None else f"{entropy:.3f}"],
    ]
    return Table("Speed and attention", ["", ""], rows)


def _agreement(by_offset: dict[str, dict[str, float]]) -> Table:
    """Return a table of the agreement of the attention with gold word links."""
    rows = [
        [offset, *(f"{one[key]:.1%}" for key in ("aer", "precision", "recall"))] for offset, one in by_offset.items()
    ]
    note = (
        "The references were given to the model (forced decoding). Each target word is linked with the source word of "
        "its largest weight. Each source word without a link is linked with the target word that has the largest "
        "weight on it. At offset +1, a piece takes the weights of the next piece, at -1 those of the piece before."
    )
    head = ["offset", "alignment error rate", "precision", "recall"]
    return Table("Agreement with gold word links", head, rows, note)


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
    """Return the end of the report: the command, the versions and the machine."""
    versions = [[name, escape(number)] for name, number in metrics["versions"].items()]
    machine = [[name, escape(value)] for name, value in metrics["machine"].items()]
    blocks = ["## How it was made"]
    if command := metrics["info"].get("command"):
        lines = map(printable, str(command).split("\n"))
        blocks.append("\n".join(f"    {line}" for line in lines))  # the indent makes a code block
    blocks.append(table(["", ""], versions + machine))
    return "\n\n".join(blocks)


def _n_best_table(translations: Sequence[Sequence[Translation]]) -> str:
    rows = ["line\trank\tlog_prob\ttext"]
    for line, n_best in enumerate(translations, 1):
        for rank, translation in enumerate(n_best, 1):
            text = _one_line(translation.text).replace("\t", " ")
            rows.append(f"{line}\t{rank}\t{translation.log_prob:.6f}\t{text}")
    return "\n".join(rows) + "\n"


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\r", " ")
