"""BLEU, chrF2 and TER of a corpus, by sacrebleu's own classes and with its signatures.

BLEU is Papineni et al. (2002), chrF2 is Popović (2015), TER is Snover et al. (2006). Why a signature belongs
to every number: Post (2018), "A Call for Clarity in Reporting BLEU Scores".
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any

from sacrebleu.metrics import BLEU, CHRF, TER

from heed.errors import UserError

METRICS = {"bleu": "BLEU", "chrf": "chrF2", "ter": "TER"}  # key in metrics.json, name
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
    """BLEU, chrF2 and TER in percent, each with its signature and its bootstrap 95 % interval (`low`, `high`).

    The numbers are those of `sacrebleu reference -i hypothesis -m bleu chrf ter --confidence`; `tokenize` is
    its `--tokenize`, `lowercase` its `-lc --chrf-lowercase` (its TER never looks at case), `bootstrap` its
    `--confidence-n` (0: no interval, `low` and `high` are None), `seed` its SACREBLEU_SEED. The resamples
    take about 80 bytes x `bootstrap` x sentences of memory.
    Raises a `UserError` where the counts differ, nothing is there, or the tokenizer is unknown.
    """
    _check(hypotheses, references)
    metrics = {
        # `force`: of text that is tokenised, it is no news that it is.
        "bleu": make_bleu(tokenize, lowercase, force=tokenize == "none"),
        "chrf": CHRF(lowercase=lowercase),
        "ter": TER(),
    }
    result: dict[str, dict[str, Any]] = {}
    for name, metric in metrics.items():
        with sacrebleu_seed(seed):
            found = _corpus_score(metric, hypotheses, references, bootstrap)
        signature = str(metric.get_signature())
        # What sacrebleu prints: the mean of the resamples ± half the width of their middle 95 %, which may leave what
        # there can be. It prints no interval where that mean is 0, which happens only when every resample is 0.
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
    """Corpus BLEU in percent, without an interval: quick enough for validation during training."""
    _check(hypotheses, references)
    return float(make_bleu(tokenize, lowercase, force=True).corpus_score(hypotheses, [references]).score)


def sentence_bleu(
    hypotheses: Sequence[str], references: Sequence[str], *, tokenize: str = "13a", lowercase: bool = False
) -> list[float]:
    """BLEU in percent of each sentence by itself, of the n-gram orders that the hypothesis has, smoothed."""
    _check(hypotheses, references)
    metric = make_bleu(tokenize, lowercase, effective_order=True)
    pairs = zip(hypotheses, references, strict=True)
    return [float(metric.sentence_score(hypothesis, [reference]).score) for hypothesis, reference in pairs]


def bleu_by_length(
    sources: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    edges: Sequence[int] = LENGTH_EDGES,
    tokenize: str = "13a",
    lowercase: bool = False,
) -> list[dict[str, Any]]:
    """Corpus BLEU of the sentences of each length, in source words as split at white space.

    `edges` are the longest lengths of the buckets, ascending; the last bucket is open. Buckets without a
    sentence are left out. A row is `{"length": "6-10", "sentences": …, "bleu": …}`.
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


def _corpus_score(metric: Any, hypotheses: Sequence[str], references: Sequence[str], bootstrap: int) -> Any:
    """sacrebleu's corpus score with its interval, also where a resample has no match at all.

    There sacrebleu 2.6 gets a float among float32 from the other resamples, and its own command line ends in
    a `TypeError` from `statistics.mean`. Only then are all made floats, since it changes the 7th digit.
    """
    try:
        return metric.corpus_score(hypotheses, [references], n_bootstrap=bootstrap)
    except TypeError:
        compute = metric._compute_score_from_stats

        def compute_float(stats: Any) -> Any:
            found = compute(stats)
            found.score = float(found.score)
            return found

        metric._compute_score_from_stats = compute_float
        return metric.corpus_score(hypotheses, [references], n_bootstrap=bootstrap)


def make_bleu(tokenize: str, lowercase: bool, force: bool = False, effective_order: bool = False) -> BLEU:
    """sacrebleu's BLEU. `UserError` for a tokenizer that it does not have, or that needs what is not here."""
    if tokenize not in BLEU.TOKENIZERS:
        raise UserError(
            f"sacrebleu has no tokenizer {tokenize!r}; choose one of {', '.join(BLEU.TOKENIZERS)}"
        )
    try:
        return BLEU(tokenize=tokenize, lowercase=lowercase, force=force, effective_order=effective_order)
    except (RuntimeError, ImportError, OSError) as error:  # a package, or a model to be downloaded
        raise UserError(f"metrics.tokenize={tokenize}: {' '.join(str(error).split())}") from None


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references):
        raise UserError(
            f"{len(hypotheses)} hypotheses but {len(references)} references: every line needs one of each"
        )
    if not hypotheses:
        raise UserError("no sentences to score: the split is empty")


@contextmanager
def sacrebleu_seed(seed: int) -> Iterator[None]:
    """Sets the environment variable that is sacrebleu's only way to take a seed, and puts it back."""
    before = os.environ.get("SACREBLEU_SEED")
    os.environ["SACREBLEU_SEED"] = str(seed)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SACREBLEU_SEED"]
        else:
            os.environ["SACREBLEU_SEED"] = before
