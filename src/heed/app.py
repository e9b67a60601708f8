"""What the scripts do, each a function of its configuration.

torch takes most of a second to import: the functions that need it, or what needs it, import it themselves, so
that mistakes are told and corpora prepared without it.
"""

import hashlib
import json
import logging
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from heed.cli import CONFIGS
from heed.component import build_corpus, build_tokenizer_settings, component
from heed.config import (
    AlignConfig,
    EvaluateConfig,
    PrepareConfig,
    TrainConfig,
    TranslateConfig,
)
from heed.data.corpus import Corpus
from heed.data.prepare import Prepared
from heed.data.prepare import prepare as prepare_corpus
from heed.data.reading import read_aligned
from heed.files import locked, refuse_paths, write
from heed.run import Run
from heed.seals import check_digests, read_json, sha256, write_json
from heed.text.pair import Tokenizers

if TYPE_CHECKING:
    from heed.evaluation.links import Gold
    from heed.model import Seq2Seq
    from heed.search.translator import Translator

log = logging.getLogger(__name__)


def prepare(config: PrepareConfig) -> Prepared:
    """Makes or finds the prepared corpus, prints where it is and how many pairs it holds."""
    settings = build_tokenizer_settings(config.tokenizer)
    prepared = prepare_corpus(build_corpus(config.data), settings, Path(config.data_dir), config.max_length)
    print(f"{prepared.directory}: " + ", ".join(f"{s} {n['kept']:,}" for s, n in prepared.stats.items()))
    return prepared


def train(config: TrainConfig, path: str | Path) -> None:
    """Trains the run in `path` to its end and evaluates it; or, interrupted, saves and exits with status 130."""
    split = resolve_split(build_corpus(config.data), config.test_split)
    tokenizer = build_tokenizer_settings(config.tokenizer)
    if config.training.subword_sampling is not None and not tokenizer.samples:
        raise ValueError(
            f"training.subword_sampling={config.training.subword_sampling} needs a tokenizer that can cut a text in "
            "more than one way: take tokenizer=sentencepiece, or training.subword_sampling=null"
        )
    run = Run(path)
    run.check(config)

    from heed.build import build_model
    from heed.device import pick_device

    pick_device(config.device)
    # Parts that do not fit are told before the corpus is prepared.
    build_model(config, (8, 8), tokenizer.joint)
    prepared = prepare(config)
    with locked(run.path / ".lock"):
        _train(config, run, prepared, split)


def _train(config: TrainConfig, run: Run, prepared: Prepared, split: str) -> None:
    run.check(config)  # again: since then, another process may have begun one here
    from heed.build import build_trainer, num_parameters
    from heed.device import keep_freed_memory, peak_memory
    from heed.evaluation.metrics import METRICS

    run.claim(config, prepared.directory)
    keep_freed_memory()
    trainer = build_trainer(config, prepared, run)
    size = num_parameters(trainer.model)
    print(f"{run.path}: {size:,} parameters, {trainer.total_steps:,} steps, at step {trainer.step:,}")
    was_finished, start = trainer.finished, time.perf_counter()
    if not trainer.train():
        trainer.monitor.close()
        print(f"interrupted at step {trainer.step:,} and saved; the same command goes on from there")
        sys.exit(130)
    peak = {} if was_finished else {"peak_memory": peak_memory(trainer.device)}
    run.record(finished=True, lines=trainer.monitor.lines, **peak)
    print(f"trained {trainer.step:,} steps; {time.perf_counter() - start:.0f} s since the last start")
    evaluation = EvaluateConfig(str(run.path), "best", split, config.search, config.metrics, config.device)
    directory = run.path / "eval" / f"{split}-{config.names['search']}"
    pairs = list(build_corpus(config.data).pairs(split))
    scores = earlier(directory, about(evaluation, config, pairs)) if was_finished else None
    if scores is None:
        scores = evaluate(evaluation, config.names["search"])
    else:
        print(summary(scores, directory))
    found = {f"test/{name}": scores[name]["score"] for name in METRICS}
    trainer.monitor.hparams(trainer.step + 1, hparams(config), found)
    trainer.monitor.close()


def earlier(directory: Path, info: dict[str, Any]) -> dict[str, Any] | None:
    """The `scores.json` of the directory, if it is whole and of an evaluation like this one."""
    if not (directory / "scores.json").exists():
        return None
    try:
        scores = read_json(directory / "scores.json")
        check_digests(directory, scores["files"], ["hypotheses.txt", "sentences.jsonl"])
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s; the evaluation is made again", error)
        return None
    # A run is known by its weights, not by how its path was written.
    same = all(scores["info"].get(key) == value for key, value in info.items() if key != "runs")
    return scores if same else None


def evaluate(config: EvaluateConfig, search_name: str) -> dict[str, Any]:
    """Translates a split, writes `eval/<split>-<search>/` into the (first) run, prints and returns `scores.json`."""
    from heed.evaluation.aligner import OFFSETS, align_words, force_decode, measure, perplexity_of
    from heed.evaluation.report import write_evaluation
    from heed.linear import unchanging_weights

    translator, trained = make_translator(config)
    corpus = build_corpus(trained.data)
    split = resolve_split(corpus, config.split)
    pairs = list(corpus.pairs(split))
    sources, references = map(list, zip(*pairs, strict=True))
    paths = as_list(config.run)
    ensemble = f"-ensemble{len(paths)}" if len(paths) > 1 else ""
    directory = Path(paths[0]) / "eval" / f"{split}-{search_name}{ensemble}"
    start = time.perf_counter()
    with unchanging_weights():
        translations = translator.translate(sources, progress=sys.stderr.isatty())
    seconds = time.perf_counter() - start
    forced = force_decode(
        translator.models, translator.tokenizers, sources, references, translator.device, translator.autocast
    )
    agreements = None
    if gold := sure(corpus.alignments(split)):
        alignments = [pair.alignment for pair in forced]
        agreements = measure(
            align_words(translator.tokenizers, sources, references, alignments, OFFSETS), gold
        )
    scores = write_evaluation(
        directory,
        sources=sources,
        references=references,
        translations=translations,
        **asdict(config.metrics.over(trained.metrics)),
        seconds=seconds,
        perplexity=perplexity_of(forced),
        agreements=agreements,
        info={
            "title": f"{split} by {', '.join(paths)}",
            "command": shlex.join(sys.argv),
            **about(config, trained, pairs),
        },
    )
    print(summary(scores, directory))
    return scores


def align(config: AlignConfig) -> dict[int, dict[str, float]]:
    """Makes the run say given translations and writes its attention as word links into `align/<split>/` of the run.

    `links.txt` (Pharaoh's format), `alignments.npz` (between words), and, where gold links are known, `scores.json`.
    """
    from heed.evaluation.aligner import OFFSETS, align_words, force_decode, measure
    from heed.evaluation.alignment import save_alignments
    from heed.evaluation.links import format_links, read_gold

    models, tokenizers, trained, device, precision = ready(config)
    gold = read_gold(config.gold, config.gold_first, config.gold_reverse) if config.gold else None
    if config.source and config.target:
        name = Path(config.source).name
        pairs = list(read_aligned(Path(config.source), Path(config.target)))
    else:
        corpus = build_corpus(trained.data)
        name = resolve_split(corpus, config.split)
        pairs = list(corpus.pairs(name))
        gold = gold or sure(corpus.alignments(name))
    if gold is not None and len(gold) != len(pairs):
        raise ValueError(f"{config.gold}: gold links for {len(gold)} pairs, but there are {len(pairs)}")
    sources, targets = map(list, zip(*pairs, strict=True))
    forced = force_decode(
        models, tokenizers, sources, targets, device, precision, progress=sys.stderr.isatty()
    )
    aligned = align_words(tokenizers, sources, targets, [pair.alignment for pair in forced], OFFSETS)
    found = {offset: one._asdict() for offset, one in measure(aligned, gold).items()} if gold else {}
    directory = Path(as_list(config.run)[0]) / "align" / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "scores.json").unlink(missing_ok=True)  # of an earlier call, which may have had gold links
    links = "".join(format_links(pair.links[0]) + "\n" for pair in aligned)
    write(directory / "links.txt", lambda path: path.write_text(links, encoding="utf-8"))
    write(
        directory / "alignments.npz", lambda path: save_alignments(path, [pair.weights for pair in aligned])
    )
    if gold:
        write_json(directory / "scores.json", {"pairs": len(pairs), "by_offset": found})
        for offset, one in found.items():
            print(f"offset {offset:+d}  " + "  ".join(f"{name} {value:.2%}" for name, value in one.items()))
    print(f"links: {directory / 'links.txt'}")
    return found


def sure(links: list[list[tuple[int, int]]] | None) -> "list[Gold] | None":
    """Gold links of a corpus, all of them sure."""
    from heed.evaluation.links import Gold

    return None if links is None else [Gold(set(pair), set(pair)) for pair in links]


def about(config: EvaluateConfig, trained: TrainConfig, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """All that an evaluation of these pairs depends on, as plain values for its report."""
    from heed.training.checkpoint import weight_files

    files = [
        file
        for path in as_list(config.run)
        for file in weight_files(Run(path).checkpoints, config.checkpoint)
    ]
    return {
        "runs": as_list(config.run),
        "weights": [sha256(file)[:12] for file in files if file.exists()],
        "sentences": hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:12],
        "checkpoint": config.checkpoint,
        "trained": {name: trained.names[name] for name in sorted(trained.names) if name != "search"},
        "precision": trained.training.precision,
        "search": asdict(config.search),
        "metrics": asdict(config.metrics.over(trained.metrics)),
    }


def translate(config: TranslateConfig) -> None:
    """Standard input to standard output, one line for each; on a terminal, a prompt that also draws the alignment."""
    from heed.interaction import pipe, prompt
    from heed.linear import unchanging_weights

    translator, _ = make_translator(config)
    with unchanging_weights():
        if sys.stdin.isatty() and sys.stdout.isatty():
            prompt(translator, config.scores)
        else:
            pipe(translator, config.buffer, config.scores)


def make_translator(config: EvaluateConfig | TranslateConfig) -> "tuple[Translator, TrainConfig]":
    """What translates with a run or several, in the precision of their training, and the first one's configuration."""
    from heed.search.translator import Translator

    models, tokenizers, trained, device, precision = ready(config)
    return Translator(models, tokenizers, config.search, device, precision), trained


def ready(config: EvaluateConfig | TranslateConfig | AlignConfig) -> Any:
    """The models of the runs on the device, tokenizers, configuration, device, and the context that they run in."""
    from heed.device import autocast, pick_device

    models, tokenizers, trained = load_runs(config.run, config.checkpoint)
    device = pick_device(config.device)
    precision = autocast(trained.training.precision, device)
    return [model.to(device) for model in models], tokenizers, trained, device, precision


def load_runs(runs: Any, checkpoint: str) -> "tuple[list[Seq2Seq], Tokenizers, TrainConfig]":
    """The models of one run or several, which must share their tokenizers, and the first one's configuration."""
    from heed.build import load_run
    from heed.device import keep_freed_memory

    keep_freed_memory()
    paths = as_list(runs)
    loaded = [load_run(path, checkpoint) for path in paths]
    first = tokenizer_files(paths[0])
    for path in paths[1:]:
        if tokenizer_files(path) != first:
            raise ValueError(
                f"{path} and {paths[0]} have different tokenizers: an ensemble needs one vocabulary"
            )
    return [model for model, _, _ in loaded], loaded[0][1], loaded[0][2]


def resolve_split(corpus: Corpus, split: str) -> str:
    """The name of a split; `test` is the first test split if none has that name. `ValueError` lists what there is."""
    splits = corpus.splits()
    if split == "test" and split not in splits:
        split = next((name for name in splits if name not in ("train", "val")), split)
    if split not in splits:
        raise ValueError(
            f"there is no split {split!r}: the corpus has {', '.join(splits)} (set split=..., to train test_split=...)"
        )
    refuse_paths(split)  # a run's own configuration may come from anywhere
    return split


def as_list(runs: Any) -> list[str]:
    """One run or several, as a list of paths."""
    paths = [str(run) for run in runs] if isinstance(runs, list | tuple) else [str(runs)]
    if not paths:
        raise ValueError("run is an empty list: name at least one run directory")
    return paths


def tokenizer_files(path: str) -> dict[str, bytes]:
    """Contents by name."""
    return {file.name: file.read_bytes() for file in Path(path).glob("tokenizer*.model")}


def summary(scores: dict[str, Any], directory: Path) -> str:
    """What a command prints at its end: each metric with its interval and signature, and where the report is."""
    lines = []
    from heed.evaluation.metrics import METRICS

    for key, name in METRICS.items():
        found = scores[key]
        interval = "" if found["low"] is None else f" (95 %: {found['low']:.2f} to {found['high']:.2f})"
        lines.append(f"{name:5} {found['score']:6.2f}{interval}  {found['signature']}")
    return "\n".join([*lines, f"report: {directory / 'report.md'}"])


def hparams(config: TrainConfig) -> dict[str, Any]:
    """The choices and settings that TensorBoard's table sorts runs by."""
    groups = {"model": asdict(config.model), "training": asdict(config.training)}
    groups |= {"score": config.score, "decoder": config.decoder}
    flat = {
        f"{group}.{key}": value
        for group, keys in groups.items()
        for key, value in keys.items()
        if key != "_target_"
    }
    plain = {key: value for key, value in flat.items() if isinstance(value, bool | int | float | str)}
    return {**config.names, "seed": config.seed, **plain}


def list_scores() -> None:
    """Prints each score in configs/score/: name, equation, reference, and parameters for queries and keys of 512."""
    from heed.score import Score

    for path in sorted((CONFIGS / "score").glob("*.yaml")):
        config: Any = OmegaConf.to_container(OmegaConf.load(path))
        alias = next(iter(config.get("defaults", [])), None)
        if alias:
            print(f"{path.stem:11} alias of {alias}")
            continue
        score = component("score", config, Score, query_dim=512, key_dim=512)
        sizes = ", ".join(
            f"{name} {'×'.join(map(str, p.shape)) or 'scalar'}" for name, p in score.named_parameters()
        )
        print(
            f"{path.stem:11} {score.equation}\n{'':11} {score.reference}\n{'':11} parameters: {sizes or 'none'}"
        )
