"""Validation: loss, perplexity, BLEU of greedy translations, and how sharp the attention is."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from math import exp

import torch

from heed.data.batches import Batches
from heed.evaluation.alignment import normalized_entropy
from heed.evaluation.metrics import bleu
from heed.model import Seq2Seq
from heed.search.beam import SearchSettings
from heed.search.translator import Translation, Translator
from heed.text import PAD
from heed.text.pair import Tokenizers
from heed.training.loss import cross_entropy

MAX_EXPONENT = 700.0  # exp of more overflows


def perplexity(nll: float) -> float:
    """exp of the mean negative log-likelihood per token, bounded so that it stays a number."""
    return exp(min(nll, MAX_EXPONENT))


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

    def __call__(self, model: Seq2Seq) -> tuple[dict[str, float], list[tuple[str, str, Translation]]]:
        """Metrics by TensorBoard tag, and samples: source, reference, translation."""
        nll, entropy = self._teacher_forced(model)
        translator = Translator([model], self.tokenizers, SearchSettings(width=1), self.device, self.autocast)
        translations = [best[0] for best in translator.translate(self.sources)]
        hypotheses = [translation.text for translation in translations]
        metrics = {
            "val/loss": nll,
            "val/perplexity": perplexity(nll),
            "val/bleu": bleu(hypotheses, self.references, **self.metrics),  # type: ignore[arg-type]
            "val/attention_entropy": entropy,
        }
        samples = list(zip(self.sources, self.references, translations, strict=True))[: self.num_samples]
        return metrics, samples

    @torch.no_grad()
    def _teacher_forced(self, model: Seq2Seq) -> tuple[float, float]:
        """Negative log-likelihood per target token, and normalised attention entropy, given the references."""
        model.eval()
        nll, entropy, tokens = 0.0, 0.0, 0
        for batch in self.batches.once():
            batch = batch.to(self.device)
            real = batch.tgt_out != PAD
            with self.autocast():
                readouts, alignment = model(batch.src, batch.src_lengths, batch.tgt_in)
                nll += float(cross_entropy(readouts[real], batch.tgt_out[real], model.output, 0.0)[1])
            num = int(real.sum())
            entropy += float(normalized_entropy(alignment, batch.src != PAD, real)) * num
            tokens += num
        return nll / tokens, entropy / tokens
