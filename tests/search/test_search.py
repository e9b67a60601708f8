"""Search against exhaustive search, a plain greedy loop, a naive beam, and forced decoding."""

import itertools
import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from heed.model import Attention, BahdanauDecoder, Bridge, Encoder, LuongDecoder, Memory, Seq2Seq
from heed.model.dropout import Dropout
from heed.score import Bahdanau, Content, Dot, General, ScaledDot
from heed.search.beam import Hypothesis, _topk, beam_search
from heed.search.settings import SearchSettings
from heed.search.translator import Translator
from heed.text import BOS, EOS, PAD, UNK, Tokenizer, Tokenizers

SCORES = [Bahdanau, Content, Dot, General, ScaledDot]
WIRINGS = ["bahdanau", "luong", "luong without feeding"]
V = 13


def make_model(score=Bahdanau, wiring="luong", cell="gru", seed=0, vocabulary=V, num_layers=1) -> Seq2Seq:
    """A random model with strong opinions; in float64, so that no comparison hangs on rounding."""
    torch.manual_seed(seed)
    src_dim, tgt_dim, hidden = 7, 3, 5
    query_dim, key_dim = (11 if score in (Bahdanau, General) else 2 * hidden), 2 * hidden
    encoder = Encoder(cell, src_dim, hidden, num_layers, True, dropout=Dropout(0.3))
    attention = Attention(score(query_dim, key_dim))
    if wiring == "bahdanau":
        decoder = BahdanauDecoder(attention, tgt_dim, query_dim, Dropout(0.3), cell, num_layers)
    else:
        decoder = LuongDecoder(attention, tgt_dim, query_dim, Dropout(0.3), cell, num_layers, wiring == "luong")
    model = Seq2Seq(
        nn.Embedding(V, src_dim),
        nn.Embedding(vocabulary, tgt_dim),
        encoder,
        Bridge(encoder.state_dim, decoder.state_dims),
        decoder,
        nn.Linear(tgt_dim, vocabulary),
        dropout=Dropout(0.3),
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.3 if "beta" in name else 0.9)
        model.output.weight *= 1.2
        model.output.bias[EOS] = 1
    return model.double().eval()


def random_sources(lengths, seed=0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [[*torch.randint(4, V, (n - 1,), generator=generator).tolist(), EOS] for n in lengths]


def search(models, sources, **options) -> list[list[Hypothesis]]:
    """`beam_search` on lists of ids."""
    src = pad_sequence([torch.tensor(ids) for ids in sources], batch_first=True, padding_value=PAD)
    return beam_search(models, src, torch.tensor([len(ids) for ids in sources]), SearchSettings(**options))


@torch.no_grad()
def forced(model, src: list[int], targets: list[list[int]]):
    """The targets' log-probabilities "M T" and alignments "M T S", by `forward`, without `step`."""
    tgt = pad_sequence([torch.tensor([BOS, *ids]) for ids in targets], batch_first=True, padding_value=PAD)
    src_batch = torch.tensor(src).expand(len(targets), -1)
    readouts, alignment = model(src_batch, torch.full((len(targets),), len(src)), tgt[:, :-1])
    log_probs = model.output(readouts).log_softmax(-1)
    return log_probs.gather(-1, tgt[:, 1:, None]).squeeze(-1), alignment


def total(log_probs, ids) -> float:
    return log_probs[: len(ids)].sum().item()


def rank_by(log_prob: float, length: int, normalization: str, alpha: float) -> float:
    return log_prob / {"none": 1, "simple": length**alpha, "gnmt": ((5 + length) / 6) ** alpha}[normalization]


def assert_same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [h.ids for h in found] == [h.ids for h in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-9)
        assert one.normalized == pytest.approx(other.normalized, abs=1e-9)
        np.testing.assert_allclose(one.alignment, other.alignment, atol=1e-6)


def naive_beam(model, src: list[int], options: SearchSettings, limit: int) -> list[Hypothesis]:
    """Beam search as one would tell it: a list of hypotheses, each with its copy of the encoder states."""
    with torch.no_grad():
        memory, state = model.encode(torch.tensor([src]), torch.tensor([len(src)]))
        live, finished = [([], 0.0, state, [])], []
        for length in range(1, limit + 1):
            candidates = []
            for ids, log_prob, state, rows in live:
                copy = Memory(*(x.clone() for x in memory))
                previous = torch.tensor([[ids[-1] if ids else BOS]])
                logits, new_state, alignment = model.step(previous, state, copy)
                for token, step_log_prob in enumerate(logits[0, 0].log_softmax(-1).tolist()):
                    too_short = token == EOS and length < options.min_length
                    too_long = token != EOS and length == limit
                    if token not in (PAD, BOS) and not too_short and not too_long:
                        new_rows = [*rows, alignment[0, 0].numpy()]
                        candidates.append(([*ids, token], log_prob + step_log_prob, new_state, new_rows))
            candidates.sort(key=lambda candidate: -candidate[1])
            finished += [c for c in candidates[: options.width] if c[0][-1] == EOS]
            live = [c for c in candidates if c[0][-1] != EOS][: options.width]
            if len(finished) >= options.width:
                break
    hypotheses = [
        Hypothesis(
            ids,
            log_prob,
            rank_by(log_prob, len(ids), options.length_normalization, options.alpha),
            np.stack(rows),
        )
        for ids, log_prob, _, rows in finished
    ]
    return sorted(hypotheses, key=lambda h: -h.normalized)[: options.n_best]


@pytest.mark.parametrize(("normalization", "alpha"), [("none", 1.0), ("simple", 0.7), ("gnmt", 1.3)])
@pytest.mark.parametrize("seed", [1, 2])
def test_full_width_is_exhaustive_search(normalization, alpha, seed):
    vocabulary, longest = 6, 4
    model, (src,) = make_model(seed=seed, vocabulary=vocabulary), random_sources([5], seed)
    words = [UNK, 4, 5]
    every = [[*ids, EOS] for n in range(longest) for ids in itertools.product(words, repeat=n)]
    log_probs, _ = forced(model, src, every)
    expected = sorted(
        (-rank_by(total(row, ids), len(ids), normalization, alpha), ids)
        for row, ids in zip(log_probs, every, strict=True)
    )
    (found,) = search(
        [model],
        [src],
        width=len(every) + 1,
        n_best=len(every) + 1,
        length_normalization=normalization,
        alpha=alpha,
        max_length=longest,
        max_length_ratio=100.0,
    )
    assert len(found) == len(every) == 1 + 3 + 9 + 27
    assert [h.ids for h in found] == [ids for _, ids in expected]
    np.testing.assert_allclose([-h.normalized for h in found], [value for value, _ in expected], atol=1e-9)


def test_normalizations_disagree():
    """Else the test above would prove nothing of them."""
    model, sources = make_model(seed=1, vocabulary=6), random_sources([5], 1)
    orders = {
        tuple(
            tuple(h.ids)
            for h in search([model], sources, width=40, n_best=40, max_length=4, length_normalization=normalization)[0]
        )
        for normalization in ("none", "simple", "gnmt")
    }
    assert len(orders) == 3


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("wiring", WIRINGS)
def test_beam_one_is_greedy(score, wiring):
    model, sources = make_model(score, wiring), random_sources([2, 7, 5, 3])
    found = search([model], sources, width=1, max_length=11, max_length_ratio=100.0)
    for src, (hypothesis,) in zip(sources, found, strict=True):
        ids: list[int] = []
        while not ids or ids[-1] != EOS:
            with torch.no_grad():
                tgt = torch.tensor([[BOS, *ids]])
                readouts, _ = model(torch.tensor([src]), torch.tensor([len(src)]), tgt)
            logits = model.output(readouts)[0, -1]
            logits[[PAD, BOS]] = -math.inf
            ids.append(EOS if len(ids) == 10 else int(logits.argmax()))
        assert hypothesis.ids == ids


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_is_naive_beam_and_forced_decoding(score, wiring, cell):
    model, sources = make_model(score, wiring, cell, num_layers=2), random_sources([7, 2, 11, 5, 3])
    options = SearchSettings(width=3, n_best=3, min_length=2, max_length=17, max_length_ratio=1.5)
    found = search([model], sources, **vars(options))
    for src, hypotheses in zip(sources, found, strict=True):
        limit = min(17, int(1.5 * len(src)) + 10)
        assert_same(hypotheses, naive_beam(model, src, options, limit))
        log_probs, alignment = forced(model, src, [h.ids for h in hypotheses])
        for hypothesis, row, weights in zip(hypotheses, log_probs, alignment, strict=True):
            assert hypothesis.log_prob == pytest.approx(total(row, hypothesis.ids), abs=1e-9)
            assert hypothesis.alignment.dtype == np.float32
            np.testing.assert_allclose(hypothesis.alignment, weights[: len(hypothesis.ids)], atol=1e-6)


@given(
    seed=st.integers(0, 2**31),
    vocabulary=st.integers(4, V),
    width=st.integers(1, 6),
    min_length=st.integers(0, 5),
    more=st.integers(0, 7),
    ratio=st.sampled_from([0.0, 1.5, 1e30, math.inf]),
    offset=st.integers(-3, 5),
    normalization=st.sampled_from(["none", "simple", "gnmt"]),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5),
)
@settings(max_examples=40)
def test_every_hypothesis_ends_in_its_limits(
    seed, vocabulary, width, min_length, more, ratio, offset, normalization, lengths
):
    model, sources = make_model(seed=seed, vocabulary=vocabulary), random_sources(lengths, seed)
    options = SearchSettings(
        width=width,
        n_best=width,
        length_normalization=normalization,
        min_length=min_length,
        max_length=max(1, min_length + more),
        max_length_ratio=ratio,
        max_length_offset=offset,
    )
    for src, hypotheses in zip(sources, search([model], sources, **vars(options)), strict=True):
        limit = int(min(max(ratio * len(src) + offset, min_length, 1), options.max_length))
        for hypothesis in hypotheses:
            assert hypothesis.ids[-1] == EOS and hypothesis.ids.count(EOS) == 1
            assert min_length <= len(hypothesis.ids) <= limit
            assert not {PAD, BOS} & set(hypothesis.ids)
            assert hypothesis.alignment.shape == (len(hypothesis.ids), len(src))
            np.testing.assert_allclose(hypothesis.alignment.sum(1), 1, atol=1e-5)
        assert_same(hypotheses, naive_beam(model, src, options, limit))


def test_a_batch_is_its_sentences_one_at_a_time():
    model, sources = make_model(seed=1), random_sources([*range(2, 12)] * 3, 5)
    options = {"width": 5, "n_best": 5, "max_length": 19}
    together = search([model], sources, **options)
    # sentences leave at many steps
    assert len({len(h.ids) for hypotheses in together for h in hypotheses}) > 5
    for src, hypotheses in zip(sources, together, strict=True):
        assert_same(hypotheses, search([model], [src], **options)[0])


def test_an_ensemble_of_one_model_is_the_model():
    model, sources = make_model(wiring="bahdanau"), random_sources([3, 7])
    for one, other in zip(search([model], sources, n_best=5), search([model] * 3, sources, n_best=5), strict=True):
        assert_same(one, other)


def test_an_ensemble_averages_probabilities():
    """Three models that share nothing but their vocabulary: at each step the mean of their probabilities."""
    models = [
        make_model(Dot, "bahdanau", seed=1),
        make_model(General, "luong", "lstm", seed=2),
        make_model(seed=3),
    ]
    src = random_sources([7])[0]
    for hypothesis in search(models, [src], width=3, n_best=3)[0]:
        runs = [forced(model, src, [hypothesis.ids]) for model in models]
        mean = torch.stack([log_probs.exp() for log_probs, _ in runs]).mean(0).log().sum().item()
        assert hypothesis.log_prob == pytest.approx(mean, abs=1e-9)
        alignment = torch.stack([alignment for _, alignment in runs]).mean(0)[0]
        np.testing.assert_allclose(hypothesis.alignment, alignment, atol=1e-6)


def test_an_ensemble_of_unequal_vocabularies_is_refused():
    with pytest.raises(ValueError, match=r"unequal sizes, \[11, 13\]"):
        search([make_model(), make_model(vocabulary=11)], random_sources([3]))


def test_ties_fall_the_same_way():
    model, sources = make_model(), random_sources([3, 5, 7])
    nn.init.zeros_(model.output.weight)
    nn.init.zeros_(model.output.bias)
    first, second = (search([model], sources, n_best=5, max_length=7) for _ in range(2))
    assert [[h.ids for h in hypotheses] for hypotheses in first] == [
        [h.ids for h in hypotheses] for hypotheses in second
    ]
    assert first[0][0].log_prob == pytest.approx(-len(first[0][0].ids) * math.log(V))


def test_a_diverged_model_is_named():
    model = make_model()
    nn.init.constant_(model.output.bias, math.nan)
    with pytest.raises(ValueError, match="diverged"):
        search([model], random_sources([3]), max_length=5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_best": 7}, "n_best=7 is more than search.width=5"),
        ({"width": 0}, "search.width is 0: it must be at least 1"),
        ({"length_normalization": "wu"}, "'wu': choose one of none, simple, gnmt"),
        ({"alpha": -0.5}, "search.alpha is -0.5: it must be at least 0"),
        ({"min_length": 9, "max_length": 7}, "min_length=9 is more than search.max_length=7"),
    ],
)
def test_bad_settings(wrong, message):
    with pytest.raises(ValueError, match=message):
        SearchSettings(**wrong)


class Letters(Tokenizer):
    """a, b, c … are 4, 5, 6 …"""

    def __len__(self):
        return V

    def encode(self, text):
        return [4 + ord(c) - ord("a") if "a" <= c <= "i" else UNK for c in text]

    def decode(self, ids):
        return "".join(self.pieces(ids))

    def pieces(self, ids):
        return ["?" if i == UNK else chr(ord("a") + i - 4) for i in ids]


def load_translator(model, **options) -> Translator:
    return Translator([model], Tokenizers(Letters(), Letters()), SearchSettings(**options))


def test_translations_keep_their_lines():
    letters, lines = Letters(), ["abc", "", "hi bed", "  \t ", "c", "face", "\u2028", "bad\u2028gig", "abc"]
    model = make_model()
    translations = load_translator(model, width=3, n_best=2, batch_tokens=11).translate(lines)
    for line, best in zip(lines, translations, strict=True):
        if not line.strip():
            assert [(t.text, t.log_prob, t.pieces) for t in best] == [("", 0.0, [])]
            continue
        expected = search([model], [[*letters.encode(line), EOS]], width=3, n_best=2)[0]
        assert [t.text for t in best] == [letters.decode(h.ids[:-1]) for h in expected]
        for translation, hypothesis in zip(best, expected, strict=True):
            assert translation.log_prob == pytest.approx(hypothesis.log_prob, abs=1e-9)
            assert translation.pieces == [*letters.pieces(hypothesis.ids[:-1]), "</s>"]
            assert translation.src_pieces == [*letters.pieces(letters.encode(line)), "</s>"]
            assert translation.alignment.shape == (len(translation.pieces), len(translation.src_pieces))
            np.testing.assert_allclose(translation.alignment, hypothesis.alignment, atol=1e-6)


def test_batches_keep_their_budget(monkeypatch):
    model, shapes = make_model(), []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda src, lengths: shapes.append(src.shape) or encode(src, lengths))
    lines = ["abc", "a", "", "abcdefghi", "fed", "bed", "abcdefghabcdefghabcdefgh", "ig"]
    load_translator(model, width=1, batch_tokens=13).translate(lines)
    assert shapes == [(1, 25), (1, 10), (3, 4), (2, 3)]


def test_empty_lines_do_not_run_the_model():
    translator = Translator([], Tokenizers(Letters(), Letters()), SearchSettings())
    assert [best[0].text for best in translator.translate([" ", ""])] == ["", ""]
    assert translator.translate([]) == []


def test_a_line_end_within_a_translation_is_a_blank():
    translator = load_translator(make_model())
    translator.tokenizers.tgt.decode = lambda ids: "two\nlines"
    assert translator.translate(["abc"])[0][0].text == "two lines"


def test_a_long_line_is_cut_with_a_warning(caplog):
    translator = load_translator(make_model(), max_source_length=5)
    with caplog.at_level(logging.WARNING):
        cut, whole, also_cut = translator.translate(["abcdefg", "abcd", "hhhhhh"])
    assert [record.getMessage() for record in caplog.records] == [
        "2 of 3 lines cut to search.max_source_length=5 pieces; the first starts 'abcdefg'"
    ]
    assert cut[0].src_pieces == whole[0].src_pieces == ["a", "b", "c", "d", "</s>"]
    assert cut[0].log_prob == pytest.approx(whole[0].log_prob, abs=1e-9)  # they end in EOS alike
    assert also_cut[0].src_pieces == ["h", "h", "h", "h", "</s>"]


def test_training_mode_is_left_as_found():
    model, line = make_model(), ["abcdefgh"]
    expected = load_translator(model).translate(line)[0][0].log_prob
    model.train()
    assert load_translator(model).translate(line)[0][0].log_prob == expected  # no dropout
    assert model.training and model.encoder.training
    twice = replace(SearchSettings(), width=1)
    Translator([model, model], Tokenizers(Letters(), Letters()), twice).translate(line)
    assert model.training
    model.eval()
    load_translator(model).translate(line)
    assert not model.training


def test_precision_is_the_callers():
    model, lines = make_model().float(), ["abc", "hi bed"]
    exact = load_translator(model).translate(lines)
    translator = load_translator(model)
    translator.precision = lambda: torch.autocast("cpu", torch.bfloat16)
    rounded = translator.translate(lines)
    for (one,), (other,) in zip(exact, rounded, strict=True):
        assert one.log_prob != other.log_prob and other.alignment.dtype == np.float32
        np.testing.assert_allclose(other.alignment.sum(1), 1, atol=1e-2)


@pytest.mark.parametrize("columns", [40_000, 40_017, 2_561])
@pytest.mark.parametrize("k", [1, 2, 10])
def test_topk_by_blocks_is_torchs(columns, k):
    torch.manual_seed(k)
    x = torch.randn(64, columns)
    x[:, columns // 3 :: 2] = -torch.inf
    x[3, :-3] = -torch.inf  # at the limit of its length a sentence has only EOS
    x[5, -1] = 10.0  # in no block
    found, index = _topk(x, k)
    expected = x.topk(k).values
    assert torch.equal(found, expected)
    assert torch.equal(x.gather(1, index), expected)
    assert all(len(set(row)) == k for row in index.tolist())
