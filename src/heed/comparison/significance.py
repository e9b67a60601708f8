"""Test which differences between systems are more than chance: sacrebleu's paired tests, corrected for all pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import mean

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from heed.errors import UserError
from heed.evaluation.metrics import bleu_of_statistics, bleu_statistics

Statistics = Int[np.ndarray, "sentences 10"]


@dataclass
class Output:
    """One run's translations of the test sentences, and their BLEU."""

    hypotheses: Sequence[str]
    bleu: float


@dataclass
class Difference:
    """The difference of two systems over their common seeds. The p-values are corrected for the number of pairs."""

    systems: tuple[str, str]
    seeds: list[int]
    bleu: float  # the second system's mean minus the first's
    bootstrap: float  # p-value of the paired bootstrap (Koehn 2004; shifted: Riezler & Maxwell 2005)
    randomisation: float  # p-value of approximate randomisation (Riezler & Maxwell 2005)


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
    """Return the difference of each pair of systems that have a seed in common.

    A test resamples or swaps sentences, each with its translations of all common seeds. So more seeds do not count as
    more sentences. The tested BLEU is of all these translations together. The reported BLEU is the mean over seeds.

    Both p-values equal those of `sacrebleu --paired-bs` and `--paired-ar`. Like these, they count what is more extreme
    than the observed difference, but not what equals it. They are too small if few sentences differ. So no p-value is
    below 2 / 2^n, the least of an exact test, if the BLEU statistics of n sentences differ. A tie has the p-value 1.

    Args:
        systems: for each system, its outputs by seed.
        references: of the sentences.
        tokenize: see `corpus_metrics`.
        lowercase: see `corpus_metrics`.
        samples: of the bootstrap. By default 1,000, as in sacrebleu, or 100 for each pair if that is more.
        trials: of the randomisation. By default 10,000, or 100 for each pair. With m pairs and n trials, the least
            corrected p-value is m / (n + 1).
        seed: of the random draws.
        progress: show a bar.
    """
    pairs = list(combinations(systems, 2))
    samples, trials = (n or max(least, 100 * len(pairs)) for n, least in ((samples, 1000), (trials, 10_000)))
    statistics = {
        (name, of_seed): bleu_statistics(output.hypotheses, references, tokenize=tokenize, lowercase=lowercase)
        for name, outputs in systems.items()
        for of_seed, output in outputs.items()
    }
    found = []
    for pair in tqdm(pairs, unit="pair", desc="paired tests", disable=not progress):
        seeds = sorted(systems[pair[0]].keys() & systems[pair[1]].keys())
        if not seeds:
            continue
        first, second = (np.sum([statistics[name, one] for one in seeds], 0) for name in pair)
        bleus = [mean(systems[name][one].bleu for one in seeds) for name in pair]
        p_values = paired_tests(first, second, samples, trials, seed)
        found.append(Difference(pair, seeds, bleus[1] - bleus[0], *p_values))
    for name in ("bootstrap", "randomisation"):
        for one, corrected in zip(found, holm([getattr(one, name) for one in found]), strict=True):
            setattr(one, name, corrected)
    return found


def paired_tests(first: Statistics, second: Statistics, samples: int, trials: int, seed: int) -> tuple[float, float]:
    """Return the p-values of both tests. Memory: about 10 bytes for each sentence and sample or trial."""
    observed = abs(_difference(first.sum(0), second.sum(0)))
    if observed == 0:
        return 1.0, 1.0
    least = float(2.0 ** (1 - np.any(first != second, 1).sum()))
    try:
        resampled = bootstrap(first, second, samples, seed)
        swapped = randomise(first, second, trials, seed)
    except MemoryError as error:
        raise UserError(
            f"out of memory ({error}): the paired tests draw {samples:,} samples and {trials:,} trials of "
            f"{len(first):,} sentences. Lower samples and trials"
        ) from None
    return max(least, p_value(resampled, observed)), max(least, p_value(swapped, observed))


def p_value(drawn: Float[np.ndarray, " draws"], observed: float) -> float:
    """Return the share of draws above the observed value. The 1 is the observed outcome itself."""
    return (int(np.sum(drawn > observed)) + 1) / (len(drawn) + 1)


def bootstrap(first: Statistics, second: Statistics, samples: int, seed: int) -> Float[np.ndarray, " samples"]:
    """Return absolute differences in BLEU of sentences drawn with replacement, minus their mean.

    The mean is subtracted after the absolute value, as in Moses. So if a difference is clear, its p-value is that of a
    one-sided test.
    """
    drawn = np.random.default_rng(seed).choice(len(first), (samples, len(first)))
    found = np.array([abs(_difference(first[one].sum(0), second[one].sum(0))) for one in drawn])
    return found - found.mean()


def randomise(first: Statistics, second: Statistics, trials: int, seed: int) -> Float[np.ndarray, " trials"]:
    """Return absolute differences in BLEU of systems that have swapped each sentence with probability 1/2."""
    kept = np.random.default_rng(seed).integers(2, size=(trials, len(first)), dtype=bool)
    one = kept @ first + ~kept @ second
    other = (first + second).sum(0) - one
    return np.array([abs(_difference(*both)) for both in zip(one, other, strict=True)])


def _difference(first: Int[np.ndarray, "10"], second: Int[np.ndarray, "10"]) -> float:
    return bleu_of_statistics(first) - bleu_of_statistics(second)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number m (Holm 1979).

    The i-th smallest, counted from 0, is multiplied by m - i. The results do not fall, and are at most 1.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected
