"""The model and search that heed is compared with, as tutorials write them: one cell and one step at a time."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import count
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from heed.data.batches import Batch
from heed.model import BahdanauDecoder, Encoder, LuongDecoder, Seq2Seq
from heed.search.beam import Hypothesis
from heed.search.settings import SearchSettings
from heed.text import BOS, EOS, PAD

State = list[Tensor]
"""h (GRU) or h and c (LSTM), "B H" each, of the layers from the bottom up. With input feeding, s̃ "B E" comes last."""


class Textbook(nn.Module):
    """Computes the same as `Seq2Seq`, as tutorials do, which costs time and memory.

    The encoder reads packed sequences. torch's cells run in a loop over target positions, with or without input
    feeding. The score prepares its keys again at every step. The output layer is inside the loop. The logits of all
    positions, padding too, are kept for one cross-entropy.
    """

    def __init__(self, model: Seq2Seq) -> None:
        """Take over the layers of a model. Encoder and cells are new modules with the model's weights."""
        super().__init__()
        decoder, rnn = model.decoder, model.decoder.recurrent.rnn
        C = model.decoder.recurrent.C
        assert isinstance(decoder, BahdanauDecoder | LuongDecoder)
        assert model.dropout.p == model.encoder.dropout.p == decoder.dropout.p, "a tutorial has one dropout"
        assert model.encoder.skip is None, "a tutorial has no way past its encoder"
        self.bahdanau = isinstance(decoder, BahdanauDecoder)
        self.input_feeding = isinstance(decoder, LuongDecoder) and decoder.input_feeding
        self.src_embedding = model.src_embedding
        self.tgt_embedding = model.tgt_embedding
        self.encoder = _encoder(model.encoder)
        self.bridge = model.bridge.W_s
        self.cells = _cells(rnn, None if C is None else C.weight)
        self.num_tensors = 2 if isinstance(rnn, nn.LSTM) else 1  # of a layer's state
        self.score = decoder.attention.score
        self.readout = decoder.deep_output if isinstance(decoder, BahdanauDecoder) else decoder.W_c
        self.output = model.output
        self.dropout = nn.Dropout(decoder.dropout.p)

    def loss(self, batch: Batch, smoothing: float) -> Float[Tensor, ""]:
        """Return the cross-entropy with label smoothing, summed over the real target tokens."""
        states, mask, state = self.encode(batch.src, batch.src_lengths)
        steps = []
        for previous in batch.tgt_in.unbind(1):
            logits, state, _ = self.step(previous, state, states, mask)
            steps.append(logits)
        return cross_entropy(
            torch.stack(steps, 1).flatten(0, 1),  # (B·T) V
            batch.tgt_out.flatten(),
            ignore_index=PAD,
            reduction="sum",
            label_smoothing=smoothing,
        )

    def encode(
        self, src: Int[Tensor, "B S"], src_lengths: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B S K"], Bool[Tensor, "B S"], State]:
        """Return encoder states, the mask of real tokens, and the first state. `src_lengths` is on the CPU."""
        embedded = self.dropout(self.src_embedding(src))
        packed = pack_padded_sequence(embedded, src_lengths, batch_first=True, enforce_sorted=False)
        outputs, final = self.encoder(packed)
        states, _ = pad_packed_sequence(outputs, batch_first=True, total_length=src.size(1))
        last = final[0] if isinstance(self.encoder, nn.LSTM) else final  # (L · directions) B H
        last = torch.cat(last[-2:].unbind() if self.encoder.bidirectional else [last[-1]], -1)
        bridged = torch.tanh(self.bridge(last)).chunk(len(self.cells) * self.num_tensors, -1)
        # The bridge makes the top layer's state first.
        state = [x for layer in reversed(self._layers(bridged)) for x in layer]
        if self.input_feeding:
            state.append(last.new_zeros(len(src), self.readout.out_features))
        return self.dropout(states), src != PAD, state

    def step(
        self,
        previous: Int[Tensor, " B"],
        state: State,
        states: Float[Tensor, "B S K"],
        mask: Bool[Tensor, "B S"],
    ) -> tuple[Float[Tensor, "B V"], State, Float[Tensor, "B S"]]:
        """Return logits, state and alignment at one target position."""
        embedded = self.dropout(self.tgt_embedding(previous))
        if self.bahdanau:
            context, alignment = self.attend(state[-self.num_tensors], states, mask)
            hidden, state = self.recur(torch.cat([embedded, context], -1), state)
            deep = self.readout(torch.cat([hidden, embedded, context], -1))
            readout = self.dropout(deep.unflatten(-1, (-1, 2)).amax(-1))
        else:
            fed = state[len(self.cells) * self.num_tensors :]
            hidden, state = self.recur(torch.cat([embedded, *fed], -1), state)
            context, alignment = self.attend(hidden, states, mask)
            readout = self.dropout(torch.tanh(self.readout(torch.cat([context, hidden], -1))))
            if self.input_feeding:
                state.append(readout)
        return self.output(readout), state, alignment

    def attend(
        self, query: Float[Tensor, "B Q"], states: Float[Tensor, "B S K"], mask: Bool[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B S"]]:
        """Return context and alignment. The keys are prepared here, so at every step."""
        energy = self.score(query[:, None], self.score.prepare(states)).squeeze(1)
        alignment = energy.masked_fill(~mask, -torch.inf).softmax(-1)
        return torch.bmm(alignment[:, None], states).squeeze(1), alignment

    def recur(self, inputs: Float[Tensor, "B I"], state: State) -> tuple[Float[Tensor, "B H"], State]:
        """Return the top layer's h and the new state, after one step of all layers."""
        new: State = []
        for cell, before in zip(self.cells, self._layers(state), strict=True):
            inputs = self.dropout(inputs) if new else inputs
            after = cell(inputs, before) if isinstance(cell, nn.LSTMCell) else (cell(inputs, *before),)
            new += after
            inputs = after[0]
        return inputs, new

    def _layers(self, state: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """Return the recurrent tensors of each layer."""
        size = self.num_tensors
        return [tuple(state[i * size : (i + 1) * size]) for i in range(len(self.cells))]


def textbook(model: Seq2Seq) -> Textbook:
    """Return a textbook model with copies of a model's weights, tied as in the model, and with the same dropout."""
    return Textbook(deepcopy(model)).train(model.training)


def _encoder(encoder: Encoder) -> nn.RNNBase:
    """Return one module of torch for all layers and directions, with the weights of heed's separate modules."""
    first = encoder.forwards[0]
    assert isinstance(first, nn.GRU | nn.LSTM)
    num_layers = len(encoder.forwards)
    rnn = type(first)(
        first.input_size,
        first.hidden_size,
        num_layers,
        batch_first=True,
        dropout=encoder.dropout.p if num_layers > 1 else 0.0,
        bidirectional=len(encoder.backwards) > 0,
    )
    for direction, nets in (("", encoder.forwards), ("_reverse", encoder.backwards)):
        for layer, net in enumerate(nets):
            _take(rnn, f"_l{layer}{direction}", net, "_l0")
    rnn.flatten_parameters()
    return rnn


def _cells(rnn: Any, C: Tensor | None) -> nn.ModuleList:
    """Return a cell of torch for each layer. The first cell's W is joined with C, the weights of the fed-back part."""
    make = nn.LSTMCell if isinstance(rnn, nn.LSTM) else nn.GRUCell
    cells = nn.ModuleList()
    for layer in range(rnn.num_layers):
        cell: Any = make(rnn.hidden_size if layer else rnn.input_size, rnn.hidden_size)
        _take(cell, "", rnn, f"_l{layer}")
        cells.append(cell)
    if C is not None:
        first: Any = cells[0]
        first.weight_ih = nn.Parameter(torch.cat([rnn.weight_ih_l0, C], 1).detach())
        first.input_size += C.size(1)
    return cells


def _take(to: nn.Module, to_suffix: str, source: nn.Module, suffix: str) -> None:
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        setattr(to, name + to_suffix, getattr(source, name + suffix))


@torch.inference_mode()
def beam_search(
    model: Textbook, src: Int[Tensor, "B S"], src_lengths: Int[Tensor, " B"], settings: SearchSettings
) -> list[list[Hypothesis]]:
    """Return the same hypotheses as `heed.search.beam.beam_search`, computed as tutorials do.

    Rows are hypotheses, N for each sentence from the first step on, and each has a copy of the encoder states. All rows
    are reordered at every step, with the copied states. Finished sentences are computed until the last one ends.
    """
    num_sentences, width = len(src), settings.width
    states, mask, state = model.encode(src, src_lengths)
    states, mask, *state = [x.repeat_interleave(width, 0) for x in (states, mask, *state)]
    limits = settings.limits(src_lengths).to(src.device)
    ids = src.new_full((num_sentences * width, 1), BOS)
    first_rows = torch.arange(0, len(ids), width, device=src.device)[:, None]
    log_probs = states.new_full((num_sentences, width), -torch.inf)
    log_probs[:, 0] = 0  # all hypotheses begin alike, so only the first one may continue
    alignments = states.new_zeros(len(ids), 0, src.size(1))
    finished: list[list[Hypothesis]] = [[] for _ in range(num_sentences)]
    done = torch.zeros_like(limits, dtype=torch.bool)
    for length in count(1):
        logits, state, alignment = model.step(ids[:, -1], state, states, mask)
        alignments = torch.cat([alignments, alignment[:, None]], 1)
        next_log_probs = logits.log_softmax(-1).unflatten(0, (num_sentences, width))  # B N V
        next_log_probs[..., [PAD, BOS]] = -torch.inf
        if length < settings.min_length:
            next_log_probs[..., EOS] = -torch.inf
        at_limit = limits == length
        next_log_probs[at_limit, :, :EOS] = next_log_probs[at_limit, :, EOS + 1 :] = -torch.inf

        totals = (log_probs[..., None] + next_log_probs).flatten(1)  # B (N·V)
        top, index = totals.topk(2 * width)  # at most N of them end: N can go on
        rows, tokens = first_rows + index // logits.size(-1), index % logits.size(-1)
        ends = tokens == EOS
        for sentence, rank in ends[:, :width].nonzero().tolist():
            log_prob, row = top[sentence, rank].item(), rows[sentence, rank]
            if log_prob > -torch.inf:
                weights = alignments[row, :, : src_lengths[sentence]].float().cpu().numpy()
                normalized = log_prob / settings.penalty(length)
                finished[sentence].append(Hypothesis([*ids[row, 1:].tolist(), EOS], log_prob, normalized, weights))
        done |= at_limit | limits.new_tensor([len(found) >= width for found in finished], dtype=torch.bool)
        if done.all():
            break
        log_probs, kept = top.masked_fill(ends | done[:, None], -torch.inf).topk(width)
        if width > 1:
            parents = rows.gather(1, kept).flatten()
            states, mask, alignments, ids, *state = [
                x.index_select(0, parents) for x in (states, mask, alignments, ids, *state)
            ]
        ids = torch.cat([ids, tokens.gather(1, kept).view(-1, 1)], 1)
    best = [sorted(found, key=lambda hypothesis: -hypothesis.normalized) for found in finished]
    return [found[: settings.n_best] for found in best]
