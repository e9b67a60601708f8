"""Validation: loss, perplexity, BLEU of greedy translations, and diagnostics of the attention."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch

from heed.alignment.diagnostics import diagnostics, normalized_entropy
from heed.data.batches import Batches
from heed.evaluation.metrics import bleu
from heed.model import Seq2Seq
from heed.ops.cross_entropy import cross_entropy, perplexity
from heed.search.settings import SearchSettings
from heed.search.translator import Translation, Translator
from heed.text import PAD
from heed.text.pair import Tokenizers

# Longer sentences are cut: an alignment has as many numbers as source pieces times target pieces.
LONGEST = SearchSettings.max_source_length
log = logging.getLogger(__name__)


@dataclass
class Validator:
    """Measures a model on the validation split."""

    batches: Batches
    text: tuple[Sequence[str], Sequence[str]]  # Sources and references of the same split.
    tokenizers: Tokenizers
    metrics: dict[str, object]  # sacrebleu's options for BLEU.
    num_samples: int  # Translations to show.
    device: torch.device
    precision: Callable[[], AbstractContextManager[None]]

    def __post_init__(self) -> None:
        """Warn of sentences that will be cut, and allow translations as long as nearly all references."""
        pairs = self.batches.pairs
        src, tgt = pairs.src.lengths + 1, pairs.tgt.lengths + 1  # with EOS
        if long := sum(int((lengths > LONGEST).sum()) for lengths in (src, tgt)):
            log.warning(
                "%d validation sentences have more than %d pieces with the end symbol, and are cut",
                *(long, LONGEST),
            )
        # For 99 % of them: one odd pair would make each validation long, with a model that does not yet end sentences.
        ratios = np.ceil((tgt - SearchSettings.max_length_offset) / src)
        ratio = max(SearchSettings.max_length_ratio, float(np.quantile(ratios, 0.99, method="higher")))
        self.search = SearchSettings(width=1, max_length_ratio=ratio)

    def __call__(self, model: Seq2Seq) -> tuple[dict[str, float], list[tuple[str, str, Translation]]]:
        """Return the metrics by TensorBoard tag, and samples of (source, reference, translation)."""
        sources, references = self.text
        teacher_forced = self._teacher_forced(model)
        nll = teacher_forced["loss"]
        translator = Translator([model], self.tokenizers, self.search, self.device, self.precision)
        translations = [best[0] for best in translator.translate(sources)]
        hypotheses = [translation.text for translation in translations]
        metrics = {f"val/{name}": value for name, value in teacher_forced.items()} | {
            "val/perplexity": perplexity(nll),
            "val/bleu": bleu(hypotheses, references, **self.metrics),  # type: ignore[arg-type]
        }
        samples = list(zip(sources, references, translations, strict=True))[: self.num_samples]
        return metrics, samples

    @torch.no_grad()
    def _teacher_forced(self, model: Seq2Seq) -> dict[str, float]:
        """Return the negative log-likelihood per target token and the attention's diagnostics, given the references."""
        model.eval()
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for batch in self.batches.once():
            batch = batch.cut(LONGEST).to(self.device)
            src_mask, real = batch.src != PAD, batch.tgt_out != PAD
            with self.precision():
                readouts, alignment = model(batch.src, batch.src_lengths, batch.tgt_in)
                nll = cross_entropy(readouts[real], batch.tgt_out[real], model.output, 0.0)[1]
            entropy = normalized_entropy(alignment, src_mask, real)
            found = {"loss": (nll, real.sum()), "attention_entropy": entropy}
            found |= {f"attention_{name}": x for name, x in diagnostics(alignment, src_mask, real).items()}
            for name, (total, number) in found.items():
                sums[name][0] += float(total)
                sums[name][1] += int(number)
        # Some diagnostics do not exist for a model without attention.
        return {name: total / number for name, (total, number) in sums.items() if number}
