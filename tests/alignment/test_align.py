"""Word links: their format, the alignment error rate, and attention read as links."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models import make_model
from helpers.runs import ROOT, command, overrides, script

from heed.alignment.forced_decoding import force_decode, perplexity_of
from heed.alignment.links import Agreement, Gold, agreement, format_links, read_gold
from heed.alignment.store import load_alignments
from heed.alignment.word_links import align_words, measure, words_of
from heed.text import EOS, Tokenizer, Tokenizers

GOLD = ROOT.parent / "shared" / "data" / "gold_align"


@pytest.mark.skipif(not GOLD.exists(), reason="needs the gold alignments in ../shared/data/gold_align")
@pytest.mark.parametrize(
    ("pair", "published"), [("enfr", (0.0407, 0.9627, 0.9542)), ("roen", (0.2075, 0.8861, 0.7168))]
)
def test_rates_of_a_known_system(pair, published):
    gold = read_gold(GOLD / f"{pair}.gold", first=1)
    found = read_gold(GOLD / f"{pair}.awesome-align.out", first=0)
    assert agreement([one.sure for one in found], gold) == pytest.approx(published, abs=5e-5)


def test_rate_by_hand():
    gold = [Gold({(0, 0), (1, 1)}, {(0, 0), (1, 1), (2, 1)}), Gold({(0, 0)}, {(0, 0)})]
    found = [{(0, 0), (2, 1), (5, 5)}, set()]
    # |A| = 3, |S| = 3, |A and S| = 1, |A and P| = 2
    assert agreement(found, gold) == pytest.approx(Agreement(1 - 3 / 6, 2 / 3, 1 / 3))
    assert agreement([set(), set()], gold) == Agreement(1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="1 sentences are aligned, but 2 have gold links"):
        agreement([set()], gold)


@pytest.mark.parametrize(("first", "reverse"), [(0, False), (1, False), (0, True), (1, True)])
def test_gold_in_every_numbering(tmp_path, first, reverse):
    def text(source, mark, target):
        pair = (target, source) if reverse else (source, target)
        return f"{pair[0] + first}{mark}{pair[1] + first}"

    line = f"{text(2, '-', 5)} {text(0, 'p', 3)}\n\n"
    (tmp_path / "gold").write_text(line)
    sure, possible = {(2, 5)}, {(2, 5), (0, 3)}
    assert read_gold(tmp_path / "gold", first, reverse) == [Gold(sure, possible), Gold(set(), set())]


@pytest.mark.parametrize(
    ("text", "first", "message"),
    [
        ("0-0\n1-\n", 0, r"gold, line 2: '1-' is not a link. Write 3-1"),
        ("1-1 0-2\n", 1, r"gold, line 1: '0-2' counts words from 0. Set gold_first=0"),
    ],
)
def test_what_is_no_link_is_named(tmp_path, text, first, message):
    (tmp_path / "gold").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_gold(tmp_path / "gold", first)


def test_links_are_written_as_pharaoh_reads_them(tmp_path):
    links = {(3, 0), (0, 2), (1, 2)}
    assert format_links(links) == "3-0 0-2 1-2"
    (tmp_path / "links").write_text(format_links(links) + "\n")
    assert read_gold(tmp_path / "links", 0) == [Gold(links, links)]


@pytest.mark.parametrize(
    ("pieces", "line", "words"),
    [
        (["▁the", "▁d", "og", "s"], "the dogs", [0, 1, 1, 1]),
        (["▁", "Z", "ö", "▁a"], "Zö a", [0, 0, 0, 1]),
        (["a", "b", "▁", "c"], " ab  c", [0, 0, 1, 1]),  # characters
        (["▁a", "▁", "▁b"], "a  b", [0, 1, 1]),  # two spaces
        (["▁", "▁a", "▁b", "▁"], " a b ", [0, 0, 1, 1]),
        (["▁", "▁"], "", None),
        (["the", "dogs"], "the dogs", [0, 1]),  # words
        (["▁the", "▁dogs"], "thedogs", None),
        (["the", "cat", "."], '" the cat.', None),  # as many as there are words, but not these
        (["the", "cat"], "The CAT", [0, 1]),
        (["▁a", "▁b", "▁c"], "a\u00a0b c", [0, 1, 2]),
        (["▁a", "\u00a0b", "▁", "▁c"], "a\u00a0b  c", None),
        (["▁", "<0xE2>", "<0x82>", "<0xAC>", "5"], "€5", [0, 0, 0, 0, 0]),
        (["<unk>", "ﬁ"], "a fi", [0, 1]),
        (["▁e", "\u0301"], "e\u0301", [0, 0]),
        (["▁a", "\\u200b"], "a\u200b", [0, 0]),  # a label
        ([], "", []),
    ],
)
def test_which_word_a_piece_belongs_to(pieces, line, words):
    assert words_of(pieces, line) == words


class Spelled(Tokenizer):
    """A word is its letters. The first letter has the mark."""

    def __len__(self):
        return 128

    def encode(self, text):
        return [ord(c) + 128 * (i == 0) for word in text.split() for i, c in enumerate(word)]

    def decode(self, ids):
        raise NotImplementedError

    def pieces(self, ids):
        return ["▁" * (i >= 128) + chr(i % 128) for i in ids]


def test_words_sum_over_source_pieces_and_average_over_target_pieces():
    tokenizers = Tokenizers(Spelled(), Spelled())
    weights = np.array(  # a b c, EOS; rows of d, e, f, EOS
        [[0.3, 0.3, 0.4, 0.0], [0.0, 0.1, 0.2, 0.7], [0.1, 0.2, 0.1, 0.6], [0.0, 0.0, 1.0, 0.0]], np.float32
    )
    (pair,) = align_words(tokenizers, ["ab c"], ["d ef"], [weights], (-1, 0, 1))
    assert pair.weights == pytest.approx(np.array([[0.6, 0.4], [0.2, 0.15]]))
    # at 0 EOS has most of ef's weight; at +1, d looks where e does, ef where f and EOS do; at -1, d looks nowhere;
    # the source word that is left over goes where it has the most
    assert pair.links == {0: {(0, 0), (1, 0)}, 1: {(1, 1), (0, 1)}, -1: {(0, 1), (1, 1)}}
    gold = {(0, 0), (1, 0)}
    rates = measure([pair], [Gold(gold, gold)])
    assert rates[0].aer == 0 and rates[1].aer == 1


def test_at_offset_one_a_piece_looked_where_the_next_one_did():
    given = (Tokenizers(Spelled(), Spelled()), ["a b c"], ["d e f"], [np.eye(4, dtype=np.float32)])
    (pair,) = align_words(*given, (-1, 0, 1))
    assert pair.links == {0: {(0, 0), (1, 1), (2, 2)}, 1: {(1, 0), (2, 1)}, -1: {(0, 1), (1, 2)}}


def test_a_source_word_that_is_left_over_goes_where_it_has_the_most():
    tokenizers = Tokenizers(Spelled(), Spelled())
    weights = np.array([[0.9, 0.06, 0.0, 0.04], [0.95, 0.05, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]], np.float32)
    (pair,) = align_words(tokenizers, ["a b c"], ["d e"], [weights], (0,))
    assert pair.links == {0: {(0, 0), (0, 1), (1, 0)}}, "b has 6 % of d; c has nothing"


def test_a_pair_without_words_and_one_that_cannot_be_told_have_no_links(caplog):
    tokenizers = Tokenizers(Spelled(), Spelled())
    tokenizers.src.pieces = lambda ids: [chr(i % 128) for i in ids]  # type: ignore[method-assign]
    empty, some = np.zeros((0, 0), np.float32), np.full((4, 4), 0.25, np.float32)
    pairs = align_words(tokenizers, ["", "ab c"], ["x", "d ef"], [empty, some])
    assert [pair.links for pair in pairs] == [{0: set()}] * 2
    assert [pair.weights.shape for pair in pairs] == [(1, 0), (2, 2)]
    assert "1 of 2 pairs got no links" in caplog.text


class Numbers(Spelled):
    """Words are ids."""

    def encode(self, text):
        return [int(word) for word in text.split()]


def test_what_is_too_long_has_no_alignment_and_no_part_in_the_perplexity(caplog):
    model, tokenizers = make_model("general", "luong").eval(), Tokenizers(Numbers(), Numbers())
    given = [model], tokenizers, ["5 7 11", "4 6", "4"], ["7", "5 4", "5 6 7"]
    forced, every = force_decode(*given, max_length=3), force_decode(*given)
    assert [pair.alignment.shape for pair in forced] == [(0, 0), (3, 3), (0, 0)]
    assert perplexity_of(forced) == pytest.approx(perplexity_of(every[1:2]))
    assert [record.args for record in caplog.records] == [(2, 3)]


def test_forced_alignments_are_those_of_a_loop_of_steps():
    model = make_model("general", "luong").eval()
    sources, targets = ["5 7 11", "4 6 8 9 10", "", "13"], ["7 8 9 10 11 12", "5", "6", "4 4"]
    tokenizers = Tokenizers(Numbers(), Numbers())
    forced = force_decode([model], tokenizers, sources, targets, batch_tokens=14)
    found = [pair.alignment for pair in forced]
    assert [matrix.shape for matrix in found] == [(7, 4), (2, 6), (0, 0), (3, 2)]
    for source, target, (matrix, log_prob) in zip(sources, targets, forced, strict=True):
        if not source:
            assert log_prob == 0
            continue
        src = torch.tensor([[*map(int, source.split()), EOS]])
        memory, state = model.encode(src, torch.tensor([src.size(1)]))
        ids, total = [2, *map(int, target.split()), EOS], 0.0
        for (token, following), row in zip(pairwise(ids), matrix, strict=True):
            logits, state, alignment = model.step(torch.tensor([[token]]), state, memory)
            assert alignment[0, 0].tolist() == pytest.approx(row.tolist(), abs=1e-6)
            total += logits[0, 0].log_softmax(-1)[following].item()
        assert log_prob == pytest.approx(total, rel=1e-5)
    whole = sum(pair.log_prob for pair in forced)
    assert perplexity_of(forced) == pytest.approx(math.exp(-whole / 12))  # 7 + 2 + 3 pieces, EOS counted
    assert perplexity_of([]) is None

    other = make_model("general", "luong", seed=2).eval()
    line = ["5 7"], ["7"]
    alone = [force_decode([one], tokenizers, *line)[0] for one in (model, other)]
    (both,) = force_decode([model, other], tokenizers, *line)
    assert both.alignment == pytest.approx((alone[0].alignment + alone[1].alignment) / 2, abs=1e-6)
    # The mean of both models' probabilities, piece by piece.
    pieces = [[math.exp(x) for x in _log_probs(one, [5, 7], [7])] for one in (model, other)]
    expected = sum(math.log((p + q) / 2) for p, q in zip(*pieces, strict=True))
    assert both.log_prob == pytest.approx(expected, rel=1e-5)


def test_forced_decoding_has_no_dropout():
    model, tokenizers = make_model("general", "luong", dropout=0.5), Tokenizers(Numbers(), Numbers())
    log_probs = [
        force_decode([one], tokenizers, ["5 7 11"], ["7 8"])[0].log_prob for one in (model.eval(), model.train())
    ]
    assert log_probs[0] == log_probs[1] and model.training


def _log_probs(model, source: list[int], target: list[int]) -> list[float]:
    """Return the log-probability of each piece of the target and EOS, by the whole model at once."""
    src, following = torch.tensor([[*source, EOS]]), torch.tensor([[*target, EOS]])
    readouts, _ = model(src, torch.tensor([src.size(1)]), torch.tensor([[2, *target]]))
    return model.output(readouts).log_softmax(-1).gather(-1, following[..., None]).flatten().tolist()


def test_align_writes_links_matrices_and_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    command("train", *overrides(tmp_path), "training.max_epochs=1", f"run={run}")
    capsys.readouterr()
    command("align", f"run={run}", "split=val")
    printed = capsys.readouterr().out
    assert f"links: {run / 'align' / 'val' / 'links.txt'}" in printed and "aer" not in printed
    assert not (run / "align" / "val" / "metrics.json").exists()
    links = (run / "align" / "val" / "links.txt").read_text().split("\n")[:-1]
    assert len(load_alignments(run / "align" / "val" / "alignments.npz")) == len(links) > 0

    (tmp_path / "mine.src").write_text("a b c\n")
    (tmp_path / "mine.tgt").write_text("x y\n")
    (tmp_path / "mine.gold").write_text("1-1 2p2\n")
    files = [
        f"source={tmp_path / 'mine.src'}",
        f"target={tmp_path / 'mine.tgt'}",
        f"gold={tmp_path / 'mine.gold'}",
    ]
    command("align", f"run={run}", *files, "gold_first=1")
    printed = capsys.readouterr().out
    metrics = json.loads((run / "align" / "mine.src" / "metrics.json").read_text())
    assert metrics["pairs"] == 1 and set(metrics["by_offset"]) == {"-1", "0", "1"}
    for offset in ("-1", "+0", "+1"):
        assert f"offset {offset}  aer" in printed
    (tmp_path / "mine.gold").write_text("1-1 2p3\n")  # now the target word stands first
    with pytest.raises(ValueError, match="words 2 and 3 are linked"):
        command("align", f"run={run}", *files, "gold_first=1")
    command("align", f"run={run}", *files, "gold_first=1", "gold_reverse=true")
    (tmp_path / "mine.gold").write_text("1-1\n1-1\n")
    with pytest.raises(ValueError, match="gold links for 2 pairs, but there are 1"):
        command("align", f"run={run}", *files)
    for links, given in (("1-1 3-2", "gold_first=0"), ("1-3", "gold_first=1")):
        (tmp_path / "mine.gold").write_text(f"{links}\n")
        with pytest.raises(ValueError, match=r"mine.gold, line 1: words \d and 3 are linked, but the source has 3"):
            command("align", f"run={run}", *files, given)
    command("align", f"run={run}", *files[:2])  # no gold links this time, so no rates
    assert not (run / "align" / "mine.src" / "metrics.json").exists()
    with pytest.raises(ValueError, match="source and target go together"):
        command("align", f"run={run}", files[0])
    with pytest.raises(ValueError, match="give split or the files"):
        command("align", f"run={run}", *files[:2], "split=val")
    for key in ("gold_first=1", "gold_reverse=true"):
        with pytest.raises(ValueError, match="give gold=FILE"):
            command("align", f"run={run}", *files[:2], key)


@pytest.mark.slow
def test_additive_attention_finds_the_gold_links_and_a_control_does_not(tmp_path: Path) -> None:
    aer = {}
    for score in ("bahdanau", "uniform"):
        run = tmp_path / score
        done = script("train", f"score={score}", f"run={run}", f"data_dir={tmp_path}", timeout=1200)
        assert done.returncode == 0, done.stderr
        metrics = json.loads((run / "eval" / "test-beam" / "metrics.json").read_text())
        aer[score] = {offset: one["aer"] for offset, one in metrics["agreement_by_offset"].items()}
    print(aer)
    assert aer["bahdanau"]["+0"] <= 0.10 < 0.40 < aer["uniform"]["+0"]
    assert aer["bahdanau"]["+0"] < min(aer["bahdanau"]["-1"], aer["bahdanau"]["+1"])
