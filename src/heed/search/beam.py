"""Beam search over the axis `N`. The hypotheses of a sentence are queries of its one memory."""

import math
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from heed.errors import UserError
from heed.model import Memory, Seq2Seq
from heed.model.recurrent import State
from heed.search.settings import SearchSettings
from heed.text import BOS, EOS, PAD


class Hypothesis(NamedTuple):
    """One translation of one sentence."""

    ids: list[int]  # T ids without BOS. The last one is EOS.
    log_prob: float  # The natural logarithm of the probability of the ids, given the source.
    normalized: float  # log_prob / penalty(T), by which hypotheses are ranked.
    alignment: Float[np.ndarray, "T S"]  # Each id's attention to the source positions, EOS included.


class _Step(NamedTuple):
    """The C candidates of each sentence at one step.

    Candidates that go on come before those that end, the best first, so the first N are the next hypotheses.
    """

    rows: np.ndarray  # B, ascending: the sentence of each row.
    ids: Tensor  # B C
    parents: Tensor  # B C: the hypothesis of the last step that the candidate continues.
    finished: Tensor  # B C: the log-probability of a finished hypothesis, -inf for other candidates.
    alignment: Tensor  # B N S: the parents' alignments.


@torch.no_grad()  # In inference mode, bfloat16 would cast each weight again at each step.
def beam_search(
    models: Sequence[Seq2Seq],
    src: Int[Tensor, "B S"],
    src_lengths: Int[Tensor, " B"],
    settings: SearchSettings,
) -> list[list[Hypothesis]]:
    """Return the `n_best` translations of each sentence, the best first.

    At each step a sentence has 2N candidates. A candidate that ends and is among the best N is finished. The best N
    candidates that do not end go on. A sentence is done as soon as N hypotheses are finished. At its length limit, EOS
    is the only candidate. PAD and BOS are never candidates. A sentence has fewer than `n_best` translations only if no
    more are possible.

    Args:
        models: one, or an ensemble, whose probabilities are averaged.
        src: source ids. Each sentence ends in EOS, before its padding.
        src_lengths: on the CPU.
        settings: of the search.

    Raises:
        UserError: the models have vocabularies of unequal sizes, or give probabilities that are not numbers.
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
        if width == 1:  # the best candidate either goes on, or ends and with it the sentence
            top, ids = totals.max(1, keepdim=True)
            parents = torch.zeros_like(ids)
            finished = top.where(ids == EOS, -math.inf)
        else:
            top, index = _topk(totals, min(2 * width, totals.shape[1]))
            # Candidates that end come last.
            order = (index % vocabulary == EOS).byte().argsort(dim=1, stable=True)
            top, index = top.take_along_dim(order, 1), index.take_along_dim(order, 1)
            ids, parents = index % vocabulary, index // vocabulary
            finished = top.where((ids == EOS) & (order < width), -math.inf)
        steps.append(_Step(rows, ids, parents, finished, alignment))

        num_finished += finished.isfinite().sum(1)
        done = at_limit | (num_finished >= width).cpu()  # the only wait for the device
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
    """Return `x.topk(k)`, perhaps with other choices among equal values.

    On a CPU, only the k blocks of columns with the greatest maxima are searched: they contain the k greatest values.
    """
    block = 64
    if not x.is_cpu or x.numel() < 1 << 17 or x.size(1) < 4 * block * k:
        top, index = x.topk(k)
        return top, index
    num_blocks = x.size(1) // block
    blocks = x[:, : num_blocks * block].unflatten(1, (num_blocks, block))
    best = blocks.amax(-1).topk(k).indices  # B k
    values = blocks.gather(1, best[..., None].expand(-1, -1, block)).flatten(1)
    index = (best[..., None] * block + torch.arange(block)).flatten(1)
    rest = num_blocks * block  # the last columns fill no block
    values = torch.cat([values, x[:, rest:]], 1)
    index = torch.cat([index, torch.arange(rest, x.size(1)).expand(len(x), -1)], 1)
    top, at = values.topk(k)
    return top, index.gather(1, at)


def _step(
    models: Sequence[Seq2Seq], tokens: Tensor, states: list[State], memories: list[Memory]
) -> tuple[Float[Tensor, "B N V"], list[State], Float[Tensor, "B N S"]]:
    """Return log-probabilities of the next id, states, and alignment. Those of an ensemble are averaged."""
    logits, new_states, alignments = zip(
        *(m.step(tokens, state, memory) for m, state, memory in zip(models, states, memories, strict=True)),
        strict=True,
    )
    if len(sizes := {x.shape[-1] for x in logits}) > 1:
        raise UserError(
            f"the models of an ensemble have vocabularies of unequal sizes, {sorted(sizes)}: "
            "choose runs that share one tokenizer"
        )
    # In float32 or wider: the sum over V loses too much in bfloat16.
    log_probs = [x.log_softmax(-1, torch.promote_types(x.dtype, torch.float32)) for x in logits]
    if len(models) == 1:
        return log_probs[0], list(new_states), alignments[0]
    mean = torch.stack(log_probs).logsumexp(0) - math.log(len(models))
    return mean, list(new_states), torch.stack(alignments).mean(0)


def _collect(steps: list[_Step], src_lengths: Tensor, settings: SearchSettings) -> list[list[Hypothesis]]:
    """Return each sentence's best finished hypotheses, by following all their parents back at once."""
    num_steps, num_sentences = len(steps), len(src_lengths)
    num_columns = max(step.ids.shape[1] for step in steps)
    finished = np.full((num_steps, num_sentences, num_columns), -np.inf)
    for t, step in enumerate(steps):
        finished[t, step.rows, : step.ids.shape[1]] = step.finished.cpu().numpy()
    normalized = finished / settings.penalty(np.arange(1, num_steps + 1))[:, None, None]
    by_sentence = normalized.swapaxes(0, 1).reshape(num_sentences, -1)
    best = np.argsort(-by_sentence, axis=1, kind="stable")[:, : settings.n_best]
    if not np.isfinite(by_sentence[np.arange(num_sentences), best[:, 0]]).all():
        raise UserError("the model gives probabilities that are not numbers: its training has diverged")

    # For M hypotheses: the sentence, the last step, and the candidate at the current step.
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
                alignment[m, :length, :src_length].copy(),  # a view would keep the whole array in memory
            )
        )
    return hypotheses
