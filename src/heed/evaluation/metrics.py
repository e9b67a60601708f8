"""BLEU, chrF2 and TER of a corpus, computed by sacrebleu, with its signatures.

BLEU: Papineni et al. (2002). chrF2: Popović (2015). TER: Snover et al. (2006). Post (2018), "A Call for Clarity in
Reporting BLEU Scores", says why every number needs a signature.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any

import numpy as np
from jaxtyping import Int
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.metrics.base import Score

from heed.errors import UserError

METRICS = {"bleu": "BLEU", "chrf": "chrF2", "ter": "TER"}  # keys in metrics.json, names
LENGTH_EDGES = (5, 10, 15, 20, 30, 50)


def corpus_metrics(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
    bootstrap: int = 1000,
    seed: int = 12345,
) -> dict[str, dict[str, Any]]:
    """Return BLEU, chrF2 and TER in percent: `value`, `signature`, and a bootstrap 95 % interval from `low` to `high`.

    The numbers equal those of `sacrebleu reference -i hypothesis -m bleu chrf ter --confidence`.

    Args:
        hypotheses: one for each reference.
        references: of the sentences.
        tokenize: sacrebleu's `--tokenize`.
        lowercase: sacrebleu's `-lc --chrf-lowercase`. TER ignores case in any event.
        bootstrap: sacrebleu's `--confidence-n`. If 0, there is no interval: `low` and `high` are None. The memory is
            about 80 bytes × `bootstrap` × sentences.
        seed: SACREBLEU_SEED.

    Raises:
        UserError: the numbers of lines differ or are 0, or the tokenizer is unknown.
    """
    _check(hypotheses, references)
    metrics = {
        # `force` silences the warning that a text is tokenised.
        "bleu": make_bleu(tokenize, lowercase, force=tokenize == "none"),
        "chrf": CHRF(lowercase=lowercase),
        "ter": TER(),
    }
    result: dict[str, dict[str, Any]] = {}
    for name, metric in metrics.items():
        with sacrebleu_seed(seed):
            found = _with_interval(metric, hypotheses, references, bootstrap)
        signature = str(metric.get_signature())
        # sacrebleu prints the mean of the resamples ± half the width of their middle 95 %. It prints no interval if
        # the mean is 0, so if every resample is 0. The bounds may be impossible values, such as a negative TER.
        printed = json.loads(found.format(width=17, signature=signature, is_json=True))
        mean, margin = printed.get("confidence_mean", 0.0), printed.get("confidence_var", 0.0)
        result[name] = {
            "value": float(found.score),
            "signature": signature,
            "low": max(0.0, mean - margin) if bootstrap > 1 else None,
            "high": min(mean + margin, inf if name == "ter" else 100.0) if bootstrap > 1 else None,
        }
        if name == "bleu":
            result[name] |= {
                "brevity_penalty": float(found.bp),
                "hyp_len": int(found.sys_len),
                "ref_len": int(found.ref_len),
                "precisions": [float(precision) for precision in found.precisions],
            }
    return result


def bleu(
    hypotheses: Sequence[str], references: Sequence[str], *, tokenize: str = "13a", lowercase: bool = False
) -> float:
    """Return corpus BLEU in percent, without an interval. It is fast enough for validation during training."""
    _check(hypotheses, references)
    return float(make_bleu(tokenize, lowercase, force=True).corpus_score(hypotheses, [references]).score)


def sentence_bleu(
    hypotheses: Sequence[str], references: Sequence[str], *, tokenize: str = "13a", lowercase: bool = False
) -> list[float]:
    """Return the smoothed BLEU of each sentence in percent, over the n-gram orders that its hypothesis has."""
    _check(hypotheses, references)
    metric = make_bleu(tokenize, lowercase, effective_order=True)
    pairs = zip(hypotheses, references, strict=True)
    return [float(metric.sentence_score(hypothesis, [reference]).score) for hypothesis, reference in pairs]


def bleu_statistics(
    hypotheses: Sequence[str], references: Sequence[str], *, tokenize: str = "13a", lowercase: bool = False
) -> Int[np.ndarray, "sentences 10"]:
    """Return the counts of each sentence that make up corpus BLEU: its sum over sentences is the corpus's.

    The columns are the lengths of hypothesis and reference, the matches of 1- to 4-grams, and the numbers of 1- to
    4-grams in the hypothesis.
    """
    _check(hypotheses, references)
    metric = make_bleu(tokenize, lowercase, force=True, effective_order=True)
    scored = (metric.sentence_score(*pair) for pair in zip(hypotheses, zip(references), strict=True))
    return np.array([[one.sys_len, one.ref_len, *one.counts, *one.totals] for one in scored])


def bleu_of_statistics(statistics: Int[np.ndarray, "10"]) -> float:
    """Return the corpus BLEU of a sum of `bleu_statistics`."""
    hyp_len, ref_len, *counts = statistics.tolist()
    return float(BLEU.compute_bleu(counts[:4], counts[4:], hyp_len, ref_len, smooth_method="exp").score)


def bleu_by_length(
    sources: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    edges: Sequence[int] = LENGTH_EDGES,
    tokenize: str = "13a",
    lowercase: bool = False,
) -> list[dict[str, Any]]:
    """Return the corpus BLEU of sentences by length: `{"length": "6-10", "sentences": …, "bleu": …}` for each bucket.

    The length is the number of source words, split at white space. `edges` are the largest lengths of the buckets,
    ascending. The last bucket has no upper bound. Empty buckets are left out.
    """
    _check(sources, hypotheses)
    _check(hypotheses, references)
    buckets: list[list[int]] = [[] for _ in range(len(edges) + 1)]
    for line, source in enumerate(sources):
        length = len(source.split())
        buckets[sum(length > edge for edge in edges)].append(line)
    firsts = [0, *(edge + 1 for edge in edges)]
    names = [f"{first}-{last}" for first, last in zip(firsts, edges, strict=False)] + [f"{firsts[-1]}+"]
    return [
        {
            "length": name,
            "sentences": len(lines),
            "bleu": bleu(
                [hypotheses[i] for i in lines],
                [references[i] for i in lines],
                tokenize=tokenize,
                lowercase=lowercase,
            ),
        }
        for name, lines in zip(names, buckets, strict=True)
        if lines
    ]


def _with_interval(metric: Any, hypotheses: Sequence[str], references: Sequence[str], bootstrap: int) -> Any:
    """Return sacrebleu's score with its interval, even if a resample has no match.

    Such a resample has a score of type float, and the others have float32. Then sacrebleu 2.6 fails with a `TypeError`
    in `statistics.mean`. Only in this case all are converted to float: the conversion changes the 7th digit.
    """
    try:
        return metric.corpus_score(hypotheses, [references], n_bootstrap=bootstrap)
    except TypeError:
        estimate = Score.estimate_ci

        def estimate_from_floats(self: Score, resamples: list[Score]) -> None:
            for one in resamples:
                one.score = float(one.score)
            estimate(self, resamples)

        Score.estimate_ci = estimate_from_floats  # type: ignore[method-assign, assignment]
        try:
            return metric.corpus_score(hypotheses, [references], n_bootstrap=bootstrap)
        finally:
            Score.estimate_ci = estimate  # type: ignore[method-assign]


def make_bleu(tokenize: str, lowercase: bool, force: bool = False, effective_order: bool = False) -> BLEU:
    """Return sacrebleu's BLEU. Raises `UserError` if the tokenizer is unknown or is not installed."""
    if tokenize not in BLEU.TOKENIZERS:
        raise UserError(f"metrics.tokenize is {tokenize!r}: choose one of {', '.join(BLEU.TOKENIZERS)}")
    try:
        return BLEU(tokenize=tokenize, lowercase=lowercase, force=force, effective_order=effective_order)
    except (
        RuntimeError,
        ImportError,
        OSError,
    ) as error:  # a missing package, or a model that cannot be downloaded
        raise UserError(f"metrics.tokenize={tokenize}: {' '.join(str(error).split())}") from None


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references):
        raise UserError(
            f"{len(hypotheses)} hypotheses but {len(references)} references: give one of each for every line"
        )
    if not hypotheses:
        raise UserError("no sentences to evaluate: the split is empty")


@contextmanager
def sacrebleu_seed(seed: int) -> Iterator[None]:
    """Set SACREBLEU_SEED, the only way to give sacrebleu a seed, and restore it at the end."""
    before = os.environ.get("SACREBLEU_SEED")
    os.environ["SACREBLEU_SEED"] = str(seed)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SACREBLEU_SEED"]
        else:
            os.environ["SACREBLEU_SEED"] = before
