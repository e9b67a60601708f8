"""Which differences between systems are more than chance: sacrebleu's paired tests over all pairs, corrected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import mean
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest
from tqdm import tqdm

from heed.errors import UserError
from heed.evaluation.metrics import sacrebleu_seed

JOINT = "\n"  # stands in no translation


@dataclass
class Output:
    """What one run made of the test sentences."""

    hypotheses: Sequence[str]
    bleu: float


@dataclass
class Difference:
    """Of two systems, over the seeds that both have; p-values of BLEU, corrected for the number of pairs."""

    systems: tuple[str, str]
    seeds: list[int]
    bleu: float  # the second's mean less the first's
    bootstrap: float  # paired bootstrap resampling (Koehn 2004), shifted as in Riezler & Maxwell 2005
    randomisation: float  # approximate randomisation (Riezler & Maxwell 2005)


def differences(
    systems: Mapping[str, Mapping[int, Output]],
    references: Sequence[str],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
    samples: int | None = None,
    trials: int | None = None,
    seed: int = 12345,
    progress: bool = False,
) -> list[Difference]:
    """All pairs of systems (name to seed to run) with a seed in common.

    What is resampled and swapped are sentences, each with its translations of all common seeds: more seeds do not
    count as more sentences. The BLEU of all seeds' together is tested; shown is the mean of their BLEUs, near it.
    With m pairs and n of `samples` or `trials` the least p-value is m / (n + 1); by default n is sacrebleu's, 1,000 and
    10,000, or 100 m. Nor is one below 2 / 2^n where BLEU counts n translations differently, the least that a test by
    exchange can say; that of a tie is 1. Memory: 50 bytes for each sentence and sample, 12 for each trial.

    Both p-values are as sacrebleu has them. Its bootstrap shifts absolute differences, as Moses does: of a difference
    that is clear, p is that of one tail. And it counts what is more extreme than the difference at hand, not what
    equals it, so where a few sentences differ, each by as much, either p is too small.
    """
    found, p_values = [], []
    pairs = list(combinations(systems, 2))
    samples, trials = (n or max(least, 100 * len(pairs)) for n, least in ((samples, 1000), (trials, 10_000)))
    for pair in tqdm(pairs, unit="pair", desc="paired tests", disable=not progress):
        sides = [systems[name] for name in pair]
        seeds = sorted(sides[0].keys() & sides[1].keys())
        if not seeds:
            continue
        texts = [
            list(map(JOINT.join, zip(*(side[s].hypotheses for s in seeds), strict=True))) for side in sides
        ]
        metric = _OverSeeds(tokenize=tokenize, lowercase=lowercase, force=True)  # evaluation has warned
        least = _least(metric, texts, references)
        p = [
            1.0 if least == 1 else max(least, _p_value(metric, texts, references, kind, number, seed))
            for kind, number in (("bs", samples), ("ar", trials))
        ]
        bleus = [mean(side[s].bleu for s in seeds) for side in sides]
        found.append(Difference(pair, seeds, bleus[1] - bleus[0], *p))
        p_values.append(p)
    for number, name in enumerate(("bootstrap", "randomisation")):
        for one, corrected in zip(found, holm([p[number] for p in p_values]), strict=True):
            setattr(one, name, corrected)
    return found


class _OverSeeds(BLEU):
    """Of a line that joins the translations of several seeds, the sum of their statistics."""

    def _extract_corpus_statistics(self, hypotheses: Sequence[str], references: Any) -> Any:
        seeds = zip(*(line.split(JOINT) for line in hypotheses), strict=True)
        return np.sum([super(_OverSeeds, self)._extract_corpus_statistics(s, references) for s in seeds], 0)


def _least(metric: _OverSeeds, texts: list[list[str]], references: Sequence[str]) -> float:
    """What no test may go below, though sacrebleu's own do, of few sentences and of a tie.

    Of all 2^n ways to swap n translations that count differently, two are as extreme as the one at hand; all are as a
    tie.
    """
    counts = [metric._extract_corpus_statistics(side, [references]) for side in texts]
    first, second = (metric._aggregate_and_compute(side).score for side in counts)
    differ = np.any(np.not_equal(*counts), 1).sum()
    return 1.0 if first == second else float(min(1.0, 2.0 ** (1 - differ)))


def _p_value(
    metric: _OverSeeds,
    texts: list[list[str]],
    references: Sequence[str],
    kind: str,
    number: int,
    seed: int,
) -> float:
    named: list[tuple[str, Sequence[str]]] = [("first", texts[0]), ("second", texts[1])]
    try:
        with sacrebleu_seed(seed):
            test = PairedTest(named, {"BLEU": metric}, [references], test_type=kind, n_samples=number)
            return float(test()[1]["BLEU"][1].p_value)  # type: ignore[union-attr, arg-type]
    except MemoryError as error:
        raise UserError(
            f"the paired tests found no memory ({error}): they have {number:,} draws of {len(references):,} sentences; "
            "give fewer, by samples and trials"
        ) from None


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number m (Holm 1979): the i-th smallest, from 0, times m - i; rising, at most 1."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected
