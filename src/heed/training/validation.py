"""Validation: loss, perplexity, BLEU of greedy translations, and how sharp the attention is."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch

from heed.data.batches import Batches
from heed.evaluation.alignment import diagnostics, looks, normalized_entropy
from heed.evaluation.metrics import bleu, perplexity
from heed.linear import unchanging_weights
from heed.model import Seq2Seq
from heed.search.settings import SearchSettings
from heed.search.translator import Translation, Translator
from heed.text import PAD
from heed.text.pair import Tokenizers
from heed.training.loss import cross_entropy

# Pieces of a side that are looked at: an alignment has as many numbers as their product.
LONGEST = SearchSettings.max_source_length
log = logging.getLogger(__name__)


class Validator:
    """Measures a model on the validation split, the same way each time."""

    def __init__(
        self,
        batches: Batches,
        text: tuple[Sequence[str], Sequence[str]],
        tokenizers: Tokenizers,
        metrics: dict[str, object],
        num_samples: int,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Args: the split as batches and as text; sacrebleu's options for BLEU; how many translations to show."""
        self.batches = batches
        self.sources, self.references = text
        self.tokenizers = tokenizers
        self.metrics = metrics
        self.num_samples = num_samples
        self.device = device
        self.autocast = autocast
        stores = (batches.pairs.src, batches.pairs.tgt)
        if long := sum(int((store.lengths >= LONGEST).sum()) for store in stores):  # EOS is one more
            log.warning(
                "%d validation sentences have more than %d pieces, the end symbol counted: cut to these",
                long,
                LONGEST,
            )

    def __call__(self, model: Seq2Seq) -> tuple[dict[str, float], list[tuple[str, str, Translation]]]:
        """Metrics by TensorBoard tag, and samples: source, reference, translation."""
        teacher_forced = self._teacher_forced(model)
        nll = teacher_forced["loss"]
        translator = Translator([model], self.tokenizers, SearchSettings(width=1), self.device, self.autocast)
        with unchanging_weights():
            translations = [best[0] for best in translator.translate(self.sources)]
        hypotheses = [translation.text for translation in translations]
        metrics = {f"val/{name}": value for name, value in teacher_forced.items()} | {
            "val/perplexity": perplexity(nll),
            "val/bleu": bleu(hypotheses, self.references, **self.metrics),  # type: ignore[arg-type]
        }
        samples = list(zip(self.sources, self.references, translations, strict=True))[: self.num_samples]
        return metrics, samples

    @torch.no_grad()
    def _teacher_forced(self, model: Seq2Seq) -> dict[str, float]:
        """Given the references: negative log-likelihood per target token, and what the attention looks like."""
        model.eval()
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for batch in self.batches.once():
            batch = batch.cut(LONGEST).to(self.device)
            src_mask, real = batch.src != PAD, batch.tgt_out != PAD
            with self.autocast():
                readouts, alignment = model(batch.src, batch.src_lengths, batch.tgt_in)
                nll = cross_entropy(readouts[real], batch.tgt_out[real], model.output, 0.0)[1]
            looking = (real & looks(alignment)).sum()
            entropy = normalized_entropy(alignment, src_mask, real) * looking
            found = {"loss": (nll, real.sum()), "attention_entropy": (entropy, looking)}
            found |= {f"attention_{name}": x for name, x in diagnostics(alignment, src_mask, real).items()}
            for name, (total, number) in found.items():
                sums[name][0] += float(total)
                sums[name][1] += int(number)
        # A model without attention has no entropy, nor does it look onwards.
        return {name: total / number for name, (total, number) in sums.items() if number}
