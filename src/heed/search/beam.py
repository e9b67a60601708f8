"""Beam search over the axis `N`: the hypotheses of a sentence are queries of its one memory."""

import math
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from heed.model import Memory, Seq2Seq
from heed.model.recurrent import State
from heed.search.settings import SearchSettings
from heed.text import BOS, EOS, PAD


class Hypothesis(NamedTuple):
    """One translation of one sentence."""

    ids: list[int]  # T of them, the last is EOS; BOS is left out
    log_prob: float  # natural logarithm of the probability of the ids, given the source
    normalized: float  # log_prob / penalty(T): what hypotheses are ranked by
    alignment: Float[np.ndarray, "T S"]  # each id's attention to the source, which ends in EOS too


class _Step(NamedTuple):
    """A step's candidates, best first but those that end last, so that the first N go on."""

    rows: np.ndarray  # B: which sentence each row is; ascending
    ids: Tensor  # B C
    parents: Tensor  # B C: which hypothesis of the step before each candidate prolongs
    finished: Tensor  # B C: log-probability of a finished hypothesis, -inf for the others
    alignment: Tensor  # B N S, of the parents


@torch.no_grad()  # in inference mode autocast would cast the weights anew at each step
def beam_search(
    models: Sequence[Seq2Seq],
    src: Int[Tensor, "B S"],
    src_lengths: Int[Tensor, " B"],
    settings: SearchSettings,
) -> list[list[Hypothesis]]:
    """The `n_best` translations of each sentence, best first; `src_lengths` is on the CPU.

    Several models are an ensemble: their probabilities are averaged. At each step a sentence has 2N
    candidates. Those among its first N that end are finished; the first N that do not end go on. A sentence
    is done when N hypotheses are finished, or at its limit, where only EOS may follow. Fewer than `n_best`
    are given only if no more are possible. PAD and BOS are never given.

    Raises: `ValueError` for models of unequal vocabularies, and for probabilities that are not numbers.
    """
    width, device = settings.width, src.device
    memories, states = map(list, zip(*(model.encode(src, src_lengths) for model in models), strict=True))
    limits = settings.limits(src_lengths)
    rows = np.arange(len(src))
    tokens = src.new_full((len(src), 1), BOS)
    log_probs = torch.zeros(len(src), 1, device=device)
    num_finished = torch.zeros(len(src), dtype=torch.long, device=device)
    steps: list[_Step] = []
    for length in count(1):
        next_log_probs, states, alignment = _step(models, tokens, states, memories)
        vocabulary = next_log_probs.shape[-1]
        next_log_probs[..., PAD] = next_log_probs[..., BOS] = -math.inf
        if length < settings.min_length:
            next_log_probs[..., EOS] = -math.inf
        at_limit = limits == length
        if at_limit.any():
            goes_on = torch.arange(vocabulary) != EOS
            next_log_probs.masked_fill_((at_limit[:, None, None] & goes_on).to(device), -math.inf)

        totals = next_log_probs.add_(log_probs[..., None]).flatten(1)  # B (N·V)
        if width == 1:  # the best one either ends, and with it the sentence, or goes on
            top, ids = totals.max(1, keepdim=True)
            parents = torch.zeros_like(ids)
            finished = top.where(ids == EOS, -math.inf)
        else:
            top, index = _topk(totals, min(2 * width, totals.shape[1]))
            order = (index % vocabulary == EOS).byte().argsort(dim=1, stable=True)  # those that end come last
            top, index = top.take_along_dim(order, 1), index.take_along_dim(order, 1)
            ids, parents = index % vocabulary, index // vocabulary
            finished = top.where((ids == EOS) & (order < width), -math.inf)
        steps.append(_Step(rows, ids, parents, finished, alignment))

        num_finished += finished.isfinite().sum(1)
        done = at_limit | (num_finished >= width).cpu()  # the one wait for the device
        if done.all():
            return _collect(steps, src_lengths, settings)
        tokens, parents = ids[:, :width], parents[:, :width]
        log_probs = top.masked_fill(ids == EOS, -math.inf)[:, :width]
        if width > 1:
            states = [tuple(x.take_along_dim(parents[..., None], 1) for x in state) for state in states]
        if done.any():
            live = (~done).nonzero().squeeze(1)
            rows, limits = rows[live.numpy()], limits[live]
            live = live.to(device)
            tokens, log_probs, num_finished = tokens[live], log_probs[live], num_finished[live]
            states = [tuple(x[live] for x in state) for state in states]
            memories = [memory.select(live) for memory in memories]
    raise AssertionError("unreachable: every sentence has a limit")


def _topk(x: Float[Tensor, "B X"], k: int) -> tuple[Float[Tensor, "B k"], Int[Tensor, "B k"]]:
    """`x.topk(k)`, but for ties; of many numbers on a CPU, by the k blocks of columns that have the greatest maxima."""
    block = 64
    if not x.is_cpu or x.numel() < 1 << 17 or x.size(1) < 4 * block * k:
        top, index = x.topk(k)
        return top, index
    num_blocks = x.size(1) // block
    blocks = x[:, : num_blocks * block].unflatten(1, (num_blocks, block))
    best = blocks.amax(-1).topk(k).indices  # B k
    values = blocks.gather(1, best[..., None].expand(-1, -1, block)).flatten(1)
    index = (best[..., None] * block + torch.arange(block)).flatten(1)
    rest = num_blocks * block  # columns that fill no block
    values = torch.cat([values, x[:, rest:]], 1)
    index = torch.cat([index, torch.arange(rest, x.size(1)).expand(len(x), -1)], 1)
    top, at = values.topk(k)
    return top, index.gather(1, at)


def _step(
    models: Sequence[Seq2Seq], tokens: Tensor, states: list[State], memories: list[Memory]
) -> tuple[Float[Tensor, "B N V"], list[State], Float[Tensor, "B N S"]]:
    """Log-probabilities of the next id, states, alignment; an ensemble's are the mean of its models."""
    logits, new_states, alignments = zip(
        *(m.step(tokens, state, memory) for m, state, memory in zip(models, states, memories, strict=True)),
        strict=True,
    )
    if len(sizes := {x.shape[-1] for x in logits}) > 1:
        raise ValueError(
            f"the models of an ensemble have vocabularies of unequal sizes, {sorted(sizes)}: "
            "choose runs that share one tokenizer"
        )
    # float32 at least: the sum over V loses too much in bf16
    log_probs = [x.log_softmax(-1, torch.promote_types(x.dtype, torch.float32)) for x in logits]
    if len(models) == 1:
        return log_probs[0], list(new_states), alignments[0]
    mean = torch.stack(log_probs).logsumexp(0) - math.log(len(models))
    return mean, list(new_states), torch.stack(alignments).mean(0)


def _collect(steps: list[_Step], src_lengths: Tensor, settings: SearchSettings) -> list[list[Hypothesis]]:
    """Picks each sentence's best finished hypotheses and follows their parents back, all at once."""
    num_steps, num_sentences = len(steps), len(src_lengths)
    num_columns = max(step.ids.shape[1] for step in steps)
    finished = np.full((num_steps, num_sentences, num_columns), -np.inf)
    for t, step in enumerate(steps):
        finished[t, step.rows, : step.ids.shape[1]] = step.finished.cpu().numpy()
    normalized = finished / settings.penalty(np.arange(1, num_steps + 1))[:, None, None]
    by_sentence = normalized.swapaxes(0, 1).reshape(num_sentences, -1)
    best = np.argsort(-by_sentence, axis=1, kind="stable")[:, : settings.n_best]
    if not np.isfinite(by_sentence[np.arange(num_sentences), best[:, 0]]).all():
        raise ValueError("the model gives probabilities that are not numbers: its training has diverged")

    # M hypotheses: their sentences, their last steps, and the candidate that each is at the step at hand
    sentence = np.arange(num_sentences).repeat(best.shape[1])
    last, column = divmod(best.ravel(), num_columns)
    log_prob, rank_by = finished[last, sentence, column], normalized[last, sentence, column]
    ids = np.full((best.size, num_steps), PAD)
    alignment = np.zeros((*ids.shape, steps[0].alignment.shape[-1]), dtype=np.float32)
    for t in range(num_steps)[::-1]:
        step, alive = steps[t], np.flatnonzero((t <= last) & np.isfinite(log_prob))
        row = np.searchsorted(step.rows, sentence[alive])
        ids[alive, t] = step.ids.cpu().numpy()[row, column[alive]]
        column[alive] = step.parents.cpu().numpy()[row, column[alive]]
        alignment[alive, t] = step.alignment[row, column[alive]].float().cpu().numpy()

    hypotheses: list[list[Hypothesis]] = [[] for _ in range(num_sentences)]
    for m in np.flatnonzero(np.isfinite(log_prob)):
        length, src_length = last[m] + 1, int(src_lengths[sentence[m]])
        hypotheses[sentence[m]].append(
            Hypothesis(
                ids[m, :length].tolist(),
                float(log_prob[m]),
                float(rank_by[m]),
                alignment[m, :length, :src_length].copy(),  # a view would keep all of them
            )
        )
    return hypotheses
