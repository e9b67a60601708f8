"""Decoding: sentences per second beside the textbook's search. Greedy and beam 5, single sentences and batches."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks import textbook
from benchmarks.training import (
    CPU,
    PRECISIONS,
    SPEED,
    WIRINGS,
    Plan,
    compare,
    configuration,
    line,
    make_model,
    speed,
    spread,
    synthetic,
)
from heed.config.components import build_corpus
from heed.model import Seq2Seq
from heed.ops.linear import packed_weights
from heed.ops.precision import precision as computing
from heed.run.loading import load_run
from heed.search.beam import Hypothesis, beam_search
from heed.search.settings import SearchSettings
from heed.text import EOS, PAD

Sources = tuple[Tensor, Tensor]  # ids "B S", lengths "B"


def measure(plan: Plan, run: str | None) -> dict[str, Any]:
    """Return a row for each search, batch size and precision, and print it. Both sides get the same batches.

    A `run` decodes its validation sentences with its best weights. Without one, the headline's model has untrained
    weights. It cannot choose EOS, so all of its translations are as long as their sources, the limit here.
    """
    limits: dict[str, Any] = {}
    if run is not None:
        model, tokenizers, config = load_run(run, "best")
        lines = [src for src, _ in build_corpus(config.data).pairs("val")]
        sources = [[*ids, EOS] for ids in tokenizers.src.encode_batch(lines)]
        print(f"{run}: its validation sentences, each translated until EOS; per second: sentences\n")
    else:
        config = configuration(f"score={plan.scores[0]}", *WIRINGS["luong"], *plan.overrides)
        model = make_model(config)
        with torch.no_grad():
            model.output.bias[EOS] = -100
        limits = {"max_length_ratio": 1.0, "max_length_offset": 0}
        batches = synthetic(20, 64, config)
        sources = [ids[ids != PAD].tolist() for batch in batches for ids in batch.src]
        print("untrained: each translation is as long as its source; take --run PATH for real translations\n")
    model.eval()
    sources.sort(key=len, reverse=True)
    line("width", "batch", "precision", *SPEED, "mean length")
    rows = []
    for width in (1, 5):
        for size, num in plan.decoding:
            chunks = [sources[i : i + size] for i in range(0, max(1, len(sources) - size + 1), size)]
            batches_of_size = [_padded(chunk) for chunk in spread(chunks, num)]
            for row in measure_search(model, batches_of_size, SearchSettings(width, **limits), plan.rounds):
                rows.append({"width": width, "batch": size, **row})
                line(width, size, row["precision"], *speed(row), f"{row['mean_length']:.1f}")
    print()
    return {"run": run, "searches": rows}


def measure_search(
    model: Seq2Seq, batches: list[Sources], settings: SearchSettings, rounds: int
) -> list[dict[str, Any]]:
    """Return a row for each precision: speeds in sentences/s, their ratio, and the mean length of a translation."""
    book = textbook.textbook(model)

    def search(precision: str, batches: list[Sources]) -> list[list[Hypothesis]]:
        with computing(precision, CPU)(), packed_weights():  # as in the translator: weights are cast once
            return [best for batch in batches for best in beam_search([model], *batch, settings)]

    def by_the_book(batches: list[Sources]) -> list[list[Hypothesis]]:
        return [best for batch in batches for best in textbook.beam_search(book, *batch, settings)]

    sides: dict[str, Callable[[list[Sources]], list[list[Hypothesis]]]] = {
        "textbook": by_the_book,
        **{precision: partial(search, precision) for precision in PRECISIONS},
    }
    num = sum(len(src) for src, _ in batches)
    speeds = compare(sides, [batches], num, rounds)
    rows = []
    for precision in PRECISIONS:
        ids = [best[0].ids for best in sides[precision](batches)]
        row = {"precision": precision, **speeds[precision], "textbook": speeds["textbook"]["per_second"]}
        rows.append({**row, "mean_length": sum(map(len, ids)) / num})
    return rows


def _padded(sources: list[list[int]]) -> Sources:
    src = pad_sequence([torch.tensor(ids) for ids in sources], batch_first=True, padding_value=PAD)
    return src, torch.tensor([len(ids) for ids in sources])
