"""Tokenizers: exact round trips over all of Unicode, fixed special ids, safe model files, clear errors."""

import gzip
import io
import json
import os
import subprocess
import sys
import threading
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import heed.text
from heed.text import BOS, EOS, PAD, UNK, UNKNOWN, Char, SentencePiece, Word, load_pair, train_pair
from heed.text.printable import printable
from heed.text.sentencepiece import _count_words, _rows, _trim

DATA = Path(__file__).parents[3] / "shared/data/multi30k/raw"
LINES = [
    "Der Hund läuft über die Straße.",
    "A dog walks across the street.",
    "Zwei Hunde laufen, ein Hund schläft.",
    "Two dogs walk; one dog sleeps.",
    "Der Hund, den die Frau sieht, läuft.",
    "The dog that the woman sees walks.",
]
# Every code point a UTF-8 file can hold, less the two that end a line or a string.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n\0"))
# What could be mistaken for something of the tokenizer's own.
TRAPS = [
    "▁",
    "\ufdd0",
    "\ufdd01",
    "0",
    "1",
    " ",
    "  ",
    "<s>",
    "</s>",
    "<unk>",
    "<pad>",
    "<0x41>",
    "⁇",
    "\ufffd",
]
TRAPS += ["\t", "\r", "\x1f", "\x85", "\u2028", "\u200b", "\u202e", "\ufeff", "\ue000", "▅", "\U0010ffff"]
TRAPS += ["e\u0301", "é", "👩‍👩‍👧", "語", "dog"]
EXACT = ["unigram", "bpe", "char"]


def quietly(settings, lines, path):
    """Trains without the warning that this small corpus has few pieces."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return settings.train(iter(lines), path)


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """The tokenizers with exact round trips. The training text of all has a `▁`."""
    directory = tmp_path_factory.mktemp("text")
    recipes = {"unigram": SentencePiece(), "bpe": SentencePiece(model_type="bpe"), "char": Char()}
    return {name: quietly(recipe, [*LINES * 5, "a ▁ b"], directory / name) for name, recipe in recipes.items()}


@pytest.mark.parametrize("name", EXACT)
@given(text=TEXT | st.lists(st.sampled_from(TRAPS)).map("".join))
@settings(max_examples=400)
def test_round_trip_is_exact(exact, name, text):
    ids = exact[name].encode(text)
    assert exact[name].decode(ids) == text
    assert all(EOS < i < len(exact[name]) for i in ids)  # no text, whatever it says, makes a special
    assert (ids == []) == (text == "")


@pytest.mark.parametrize("name", EXACT)
def test_every_code_point_round_trips(exact, name):
    points = [chr(c) for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000 and chr(c) != "\n"]
    lines = [" a".join(points[i : i + 61]) for i in range(0, len(points), 61)]
    for line, ids in zip(lines, exact[name].encode_batch(lines), strict=True):
        assert exact[name].decode(ids) == line


@pytest.mark.parametrize("name", EXACT)
@given(texts=st.lists(TEXT, max_size=5))
@settings(max_examples=30)
def test_batch_equals_one_by_one(exact, name, texts):
    assert exact[name].encode_batch(texts) == [exact[name].encode(text) for text in texts]


@pytest.mark.parametrize("name", ["unigram", "bpe"])
def test_a_sampled_line_is_other_pieces_of_the_same_text(exact, name):
    lines = [*LINES, *TRAPS, "", "  a ▁ b\t"]
    draws = [exact[name].sample_batch(lines, 0.3, seed) for seed in (1, 2, 1)]
    assert draws[0] == draws[2] != draws[1]
    for draw in draws:
        assert [exact[name].decode(ids) for ids in draw] == lines
    with ThreadPoolExecutor(7) as threads:
        more = threads.map(lambda seed: exact[name].sample_batch(101 * lines, 0.3, seed), [1, 2] * 7)
    assert [draw == exact[name].sample_batch(101 * lines, 0.3, 1) for draw in more] == [True, False] * 7
    assert exact[name].encode_batch(lines) == list(map(exact[name].encode, lines))  # never sampled


def test_what_alpha_means(exact):
    best = exact["bpe"].encode_batch(LINES)
    assert exact["bpe"].sample_batch(LINES, 0.0, 1) == best  # no merge is left out
    every = exact["bpe"].sample_batch(LINES, 1.0, 1)  # every one is: characters alone
    assert sum(map(len, every)) == sum(len(line) + 1 for line in LINES)
    tame, wild = (sum(map(len, exact["unigram"].sample_batch(LINES, alpha, 1))) for alpha in (20.0, 0.01))
    assert tame <= 1.05 * sum(map(len, exact["unigram"].encode_batch(LINES))) < wild


def test_tokenizers_without_sampling_say_so(exact):
    with pytest.raises(TypeError, match="CharTokenizer splits a text in one way only"):
        exact["char"].sample_batch(LINES, 0.1, 1)


@pytest.mark.parametrize("name", EXACT)
def test_special_ids(exact, name):
    tokenizer = exact[name]
    assert (PAD, UNK, BOS, EOS) == (0, 1, 2, 3)
    assert tokenizer.pieces([0, 1, 2, 3]) == ["<pad>", "<unk>", "<s>", "</s>"]
    ids = [np.int64(i) for i in tokenizer.encode(" dog")]
    assert tokenizer.decode([BOS, *ids, EOS, PAD, PAD]) == " dog"
    assert tokenizer.decode([]) == "" and tokenizer.pieces([]) == []
    assert UNKNOWN in tokenizer.decode([UNK])


@pytest.mark.parametrize("name", EXACT)
def test_labels_are_printable_one_per_id(exact, name):
    every = range(len(exact[name]))
    labels = exact[name].pieces(every)
    assert len(labels) == len(every) and len(set(labels)) >= len(every) - 1  # a typed ▁ looks like a space
    assert all(label.isprintable() and label for label in labels)


@pytest.mark.parametrize("name", EXACT)
def test_broken_bytes_decode_to_the_replacement_character(exact, name):
    byte = {label: i for i, label in enumerate(exact[name].pieces(range(len(exact[name]))))}
    assert exact[name].decode([byte["<0xE8>"], byte["<0xAA>"], byte["<0x9E>"]]) == "語"
    assert UNKNOWN in exact[name].decode([byte["<0xE8>"]])
    assert exact[name].decode([byte["<0x0A>"]] * 2) == "  "  # a hypothesis is one line, whatever it spells


def test_a_word_is_the_same_piece_wherever_it_stands(exact):
    ids = exact["unigram"].encode("dog dog  dog")
    assert ids[0] == ids[1] == ids[-1] and len(ids) == 4


@pytest.mark.parametrize("name", EXACT)
def test_threads_share_a_tokenizer(exact, name):
    expected = exact[name].encode_batch(LINES)
    got = []
    threads = [threading.Thread(target=lambda: got.append(exact[name].encode_batch(LINES))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [expected] * 5


def test_same_lines_give_the_same_files_in_any_process(tmp_path):
    program = f"""
import sys, warnings, pathlib; warnings.simplefilter("ignore")
from heed.text import *
recipes = [SentencePiece(), SentencePiece(model_type="bpe", max_lines=7), Char(), Word()]
for name, recipe in enumerate(recipes):
    recipe.train((line for line in {LINES * 3!r}), pathlib.Path(sys.argv[1], str(name)))"""
    here, there = tmp_path / "here", tmp_path / "there"
    for directory in (here, there):
        directory.mkdir()
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    run = [sys.executable, "-c", program, there]
    done = subprocess.run(run, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["-c", str(here)])
        exec(program, {})
    files = [{p.name: p.read_bytes() for p in directory.iterdir()} for directory in (here, there)]
    assert files[0] == files[1] and sorted(files[0]) == list("0123")  # and no temporary file is left


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_vocabulary_size(model_type, tmp_path):
    lines = [f"{i * 7919 % 1000} Hunde und {i * 104729 % 997} Katzen" for i in range(500)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(SentencePiece(model_type=model_type, vocab_size=307).train(lines, tmp_path / "m")) == 307
    with pytest.warns(UserWarning, match="20011.* supports only") as caught:
        clipped = SentencePiece(model_type=model_type, vocab_size=20011).train(lines, tmp_path / "m")
    assert f"only {len(clipped)} pieces;" in str(caught[0].message) and 307 < len(clipped) < 20011
    with pytest.raises(ValueError, match="vocab_size is 3: it must be at least 261"):
        SentencePiece(vocab_size=3)
    with pytest.raises(ValueError, match=r"character_coverage is 0\.97: sentencepiece takes 0\.98 to 1"):
        SentencePiece(character_coverage=0.97)
    for size in [261, 265]:
        with pytest.raises(ValueError, match=f"vocab_size={size} .*Raise vocab_size"):
            SentencePiece(model_type=model_type, vocab_size=size).train(lines, tmp_path / "m")


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("lines", [["a"], [" "], ["▁"], ["\t"], ["語"], ["a", ""], ["▅"], ["ab" * 4000]])
def test_tiny_corpora(model_type, lines, tmp_path):
    if lines == ["▅"]:  # sentencepiece keeps this character for itself and passes over lines that hold it
        with pytest.raises(ValueError, match="1 words"):
            SentencePiece(model_type=model_type).train(lines, tmp_path / "m")
        return
    tokenizer = quietly(SentencePiece(model_type=model_type), lines, tmp_path / "m")
    assert [tokenizer.decode(tokenizer.encode(line)) for line in lines] == lines


def test_unigram_has_every_frequent_word_as_a_candidate(tmp_path):
    some = ("wir sind {}", "dann sangen {} von ihnen sinngemäß", "sie singen", "sie sinnen")
    lines = [line.format(n) for n in range(200) for line in some]
    ours = quietly(SentencePiece(vocab_size=310), lines, tmp_path / "model")
    assert "▁sind" in ours.pieces(ours.encode("wir sind da"))
    counted = _count_words(lines, 10**6)
    rows = list(_rows({**counted, "x" * 5000: 2, "y" * 5000: 3, " ": 5}))
    assert max(map(len, rows)) < 5010 and " \t5" in rows and "\t1" not in rows
    again = Counter()
    for row in rows:
        text, _, count = row.rpartition("\t")
        again.update({word: int(count) for word in (text.split(" ") if text != " " else [" "])})
    assert again == {**counted, "x" * 5000: 2, "y" * 5000: 3, " ": 5}


@pytest.mark.parametrize("recipe", [SentencePiece(), Char(), Word()])
def test_errors_of_training(recipe, tmp_path):
    for empty in [[], ["", ""]]:
        with pytest.raises(ValueError, match="no text"):
            recipe.train(iter(empty), tmp_path / "m")

    def broken():
        yield "a dog"
        raise ValueError("corpus.de:2: invalid UTF-8")

    with pytest.raises(ValueError, match=r"corpus\.de:2"):  # the corpus's own words, not a library's
        recipe.train(broken(), tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_errors_of_settings(tmp_path):
    with pytest.raises(ValueError, match="'wordpiece': choose one of unigram, bpe"):
        SentencePiece(model_type="wordpiece")
    with pytest.raises(ValueError, match=r"tokenizer\.max_lines is 0"):
        SentencePiece(max_lines=0)
    with pytest.raises(ValueError, match=r"tokenizer\.max_size is 0"):
        Word(max_size=0)
    with pytest.raises(ValueError, match=r"tokenizer\.min_frequency is 0"):
        Word(min_frequency=0)
    with pytest.raises(ValueError, match="min_frequency=3"):
        Word(min_frequency=3).train(["a b", "a"], tmp_path / "m")
    with pytest.raises(ValueError, match=r"'nosuch'.*basic_english"):
        Word(tokenizer="nosuch").train(["a"], tmp_path / "m")
    with pytest.raises(ValueError, match=r"absent\.vec"):
        Word(vectors=str(tmp_path / "absent.vec")).train(["a a"], tmp_path / "m")


def test_words_are_counted_over_all_lines_or_a_sample_spread_over_them():
    lines = ["a dog", " a  dog dog", "cat\t \u2028a"]
    assert _count_words(lines, 3) == {"a": 2, "dog": 3, "cat\t": 1, "\u2028a": 1, " ": 1}
    kept = [int(word) for word, count in _count_words(map(str, range(10007)), 997).items() if count == 1]
    assert 997 * 0.4 < len(kept) == len(set(kept)) <= 997
    assert 10007 * 0.45 < np.mean(kept) < 10007 * 0.55
    same = _count_words(["x x x y z"] * 3011, 419)
    assert 419 * 5 * 0.4 < same.total() <= 419 * 5
    assert 0.57 < same["x"] / same.total() < 0.63
    assert list(_count_words(["a", "b"], 1)) in (["a", "b"], ["b"])


def test_a_sample_of_a_large_corpus_is_learned_from(tmp_path):
    lines = [chr(0x4E00 + i) for i in range(1009)]  # a character in each
    taught = [len(quietly(SentencePiece(max_lines=most), lines, tmp_path / str(most))) for most in (101, 1009)]
    assert taught[0] <= taught[1] - (1009 - 101)


def test_counted_words_give_the_same_pieces_as_lines(tmp_path):
    """Byte pair encoding by the library itself, given the lines."""
    lines = [line.replace(" ", space) for line in LINES * 3 for space in (" ", "  ", " " * 5)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=331, byte_fallback=True,
        character_coverage=1.0, pad_id=0, unk_id=1, bos_id=2, eos_id=3, normalization_rule_name="identity",
        remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ours = SentencePiece(model_type="bpe", vocab_size=331).train(lines, tmp_path / "m")
    assert ours.pieces(range(331)) == [theirs.id_to_piece(i) for i in range(331)]


@given(
    st.dictionaries(st.text("abcdefgh", min_size=1, max_size=7), st.integers(1, 1009), min_size=1),
    st.integers(1, 30011),
)
def test_trimmed_counts(counts, most):
    def size(counts):
        return sum((len(word) + 2) * count for word, count in counts.items())

    trimmed = _trim(counts, most)
    assert set().union(*trimmed) == set().union(*counts)  # every character is still there
    assert all(1 <= count <= counts[word] for word, count in trimmed.items())
    if size(counts) <= most:
        assert trimmed == counts
    elif size(counts) <= 2 * most:  # without a draw: the most frequent are cut alike, no more than needed
        bound = max(trimmed.values())
        assert trimmed == {word: min(count, bound) for word, count in counts.items()}
        raised = {word: min(count, bound + 1) for word, count in counts.items()}
        assert (size(trimmed) <= most or bound == 1) and size(raised) > most


def test_trimming_draws_from_all_words_alike():
    words = [f"{i:04}" for i in range(5003)]  # of size 6, so one in three is drawn
    drawn = [int(word) for word in _trim(dict.fromkeys(words, 1), len(words))]
    assert 5003 * 0.3 < len(drawn) < 5003 * 0.37
    assert 5003 * 0.45 < np.mean(drawn) < 5003 * 0.55


@pytest.mark.parametrize("recipe", [SentencePiece(byte_fallback=False), Char(byte_fallback=False)])
def test_without_byte_fallback_unseen_characters_are_unknown(recipe, tmp_path):
    tokenizer = quietly(recipe, LINES, tmp_path / "m")
    assert len(tokenizer) < 200
    assert UNK in tokenizer.encode("dog 語 dog")
    assert tokenizer.decode(tokenizer.encode("dog 語 dog")) == f"dog {UNKNOWN} dog"
    assert tokenizer.decode(tokenizer.encode("  dog ")) == "  dog "


def test_digits_cost_fourteen_ids(tmp_path):
    assert len(Char(byte_fallback=False).train(["0123456789"], tmp_path / "m")) == 14


@pytest.mark.parametrize("cut", [0, 1, 10, 0.5, 0.9, -300, -100, -1])
@pytest.mark.parametrize("recipe", [SentencePiece(), Char(), Word()])
def test_a_model_cut_short_is_refused(recipe, cut, tmp_path):
    quietly(recipe, LINES * 2, tmp_path / "m")
    data = (tmp_path / "m").read_bytes()
    if cut == -1 and data.endswith(b"\n"):
        cut = -2  # JSON without its last line end is whole
    (tmp_path / "m").write_bytes(data[: int(cut * len(data)) if isinstance(cut, float) else cut])
    with pytest.raises(ValueError, match=r"m: .*prepare the data again"):
        recipe.load(tmp_path / "m")


def test_sentencepiece_refuses_every_prefix(tmp_path):
    """Protocol buffers can be cut between fields unnoticed; the settings at the end must not get lost."""
    recipe = SentencePiece(byte_fallback=False)
    quietly(recipe, ["a dog"], tmp_path / "m")
    data = (tmp_path / "m").read_bytes()
    expected = recipe.load(tmp_path / "m").encode("  a  dog ")
    for size in range(len(data)):
        (tmp_path / "m").write_bytes(data[:size])
        try:
            tokenizer = recipe.load(tmp_path / "m")
        except ValueError:
            continue
        assert tokenizer.encode("  a  dog ") == expected, size


def test_a_model_of_another_kind_is_refused(tmp_path):
    Char().train(["a a"], tmp_path / "char")
    with pytest.raises(ValueError, match="not a model of tokenizer=word"):
        Word().load(tmp_path / "char")
    with pytest.raises(ValueError, match="not a sentencepiece model"):
        SentencePiece().load(tmp_path / "char")
    (tmp_path / "char").write_text('{"kind": "char", "characters": 3}')
    with pytest.raises(ValueError, match="broken"):
        Char().load(tmp_path / "char")
    (tmp_path / "word").write_text('{"kind": "word", "tokenizer": null, "lower": 1, "counts": {}}')
    with pytest.raises(ValueError, match="broken"):
        Word().load(tmp_path / "word")


def test_words(tmp_path):
    recipe = Word()
    recipe.train(["der Hund </s> der", "Hund der <unk> </s> Katze"], tmp_path / "m")
    tokenizer = recipe.load(tmp_path / "m")
    assert tokenizer.pieces(range(len(tokenizer))) == ["<pad>", "<unk>", "<s>", "</s>", "der", "Hund"]
    assert tokenizer.encode(" der  Hund Katze </s>") == [4, 5, UNK, UNK]  # typed specials are only words
    assert tokenizer.decode([BOS, 4, 5, UNK, EOS, PAD]) == f"der Hund {UNKNOWN}"
    assert json.loads((tmp_path / "m").read_text("utf-8"))["counts"] == {"der": 3, "Hund": 2}
    assert len(Word(max_size=1, min_frequency=1).train(["b a a"], tmp_path / "m")) == 5


@given(words=st.lists(st.sampled_from(["der", "Hund", "Straße.", "e\u0301", "👩‍👩‍👧", "語", "<s>x"])))
@settings(max_examples=50)
def test_words_seen_round_trip(words):
    from heed.text.word import WordTokenizer

    tokenizer = WordTokenizer(["der", "Hund", "Straße.", "e\u0301", "👩‍👩‍👧", "語", "<s>x"], str.split)
    assert tokenizer.decode(tokenizer.encode(" ".join(words))) == " ".join(words)


def test_the_file_decides_how_words_are_split(tmp_path):
    Word(tokenizer="basic_english", min_frequency=1).train(["A dog, a cat."], tmp_path / "m")
    assert Word().load(tmp_path / "m").encode("a DOG.") == Word().load(tmp_path / "m").encode("a dog .")
    Word(lower=True, min_frequency=1).train(["A dog"], tmp_path / "m")
    assert UNK not in Word().load(tmp_path / "m").encode("a DOG")


def write_vectors(path, lines):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wb") as file:
        file.write("\n".join(lines).encode())


@pytest.mark.parametrize("name", ["v.vec", "v.vec.gz"])
def test_pretrained_vectors(name, tmp_path):
    import ssl

    verify = ssl._create_default_https_context
    write_vectors(tmp_path / name, ["3 5", "Katze 9 9 9 9 9", "Hund 1 2 3 4 5.5", "Straße -1 0 0 0 1e-2"])
    (tmp_path / f"{name}.pt").write_bytes(b"a pickle that nobody may read")
    recipe = Word(min_frequency=1, vectors=str(tmp_path / name))
    tokenizer = recipe.train(["Hund Straße Esel"], tmp_path / "m")
    before = sorted(tmp_path.iterdir())
    ids, vectors = recipe.pretrained(tokenizer, 5)
    assert sorted(zip(tokenizer.pieces(ids.tolist()), vectors.tolist(), strict=True)) == [
        ("Hund", [1, 2, 3, 4, 5.5]),
        ("Straße", [-1, 0, 0, 0, pytest.approx(1e-2)]),
    ]
    assert sorted(tmp_path.iterdir()) == before and not Path(".vector_cache").exists()
    assert ssl._create_default_https_context is verify  # torchtext would have switched it off for all
    assert Word().pretrained(tokenizer, 5) is None
    with pytest.raises(ValueError, match="have 5 numbers, the embedding has 7"):
        recipe.pretrained(tokenizer, 7)


def test_vectors_of_words_with_a_space_are_left_out(tmp_path):
    """As in GloVe's largest file, where some mail addresses begin with `at `."""
    write_vectors(tmp_path / "v.vec", ["Hund 1 2 3", "Hund name@domain.com 4 5 6", "Esel 7 8 9"])
    recipe = Word(min_frequency=1, vectors=str(tmp_path / "v.vec"))
    tokenizer = recipe.train(["Hund Esel"], tmp_path / "m")
    ids, vectors = recipe.pretrained(tokenizer, 3)
    found = dict(zip(tokenizer.pieces(ids.tolist()), vectors.tolist(), strict=True))
    assert found == {"Hund": [1, 2, 3], "Esel": [7, 8, 9]}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Katze 1 2 3"], "none of the 2 words"),
        (["Hund 1 2 3", "Esel 1 2"], "has 2 dimensions"),
        (["Hund 1 two 3"], "two"),
        (["Hund 1 nan 3"], "not finite"),
        (["Hund"], "v.vec"),
    ],
)
def test_broken_vectors(lines, message, tmp_path):
    write_vectors(tmp_path / "v.vec", lines)
    recipe = Word(min_frequency=1, vectors=str(tmp_path / "v.vec"))
    tokenizer = recipe.train(["Hund Esel"], tmp_path / "m")
    with pytest.raises(ValueError, match=message) as error:
        recipe.pretrained(tokenizer, 3)
    assert "v.vec" in str(error.value)


@pytest.mark.parametrize("joint", [True, False])
def test_pair(joint, tmp_path):
    pairs = list(zip(LINES[::2], LINES[1::2], strict=True))
    recipe = Char(joint=joint, byte_fallback=False)
    trained = train_pair(recipe, lambda: iter(pairs), tmp_path / "new" / "run")
    names = ["tokenizer.model"] if joint else ["tokenizer.src.model", "tokenizer.tgt.model"]
    assert sorted(p.name for p in (tmp_path / "new/run").iterdir()) == names
    loaded = load_pair(recipe, tmp_path / "new" / "run")
    assert loaded.joint is trained.joint is joint
    assert [len(t) for t in loaded] == [len(t) for t in trained]
    assert (UNK in loaded.tgt.encode("ß")) is not joint and UNK not in loaded.src.encode("ß")
    (tmp_path / "new/run" / names[-1]).unlink()
    with pytest.raises(ValueError, match=f"{names[-1]}: no such file"):
        load_pair(recipe, tmp_path / "new" / "run")


def test_a_failed_write_leaves_the_old_model(tmp_path, monkeypatch):
    old = Char().train(["abc"], tmp_path / "m")
    data = (tmp_path / "m").read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        Char().train(["abcd"], tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == data and [p.name for p in tmp_path.iterdir()] == ["m"]
    assert len(old) == len(Char().load(tmp_path / "m"))


def test_rare_characters_outside_the_coverage_have_no_own_piece(tmp_path):
    lines = ["aaaa bbbb"] * 999 + ["ж"]
    sizes = {"vocab_size": 265, "model_type": "bpe"}
    whole, most = (
        SentencePiece(character_coverage=coverage, **sizes).train(lines, tmp_path / f"{coverage}")
        for coverage in (1.0, 0.99)
    )
    assert any("ж" in piece for piece in whole.pieces(whole.encode("ж")))
    assert most.pieces(most.encode("ж")) == ["▁", "<0xD0>", "<0xB6>"] and most.decode(most.encode("ж")) == "ж"


def test_import_is_light():
    program = "import sys, heed.text; assert not {'torch', 'torchtext', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "configs/tokenizer").glob("*.yaml")), ids=lambda p: p.stem
)
def test_yaml_names_every_field_with_its_default(path):
    keys = yaml.safe_load(path.read_text("utf-8"))
    recipe = getattr(heed.text, keys.pop("_target_").removeprefix("heed.text."))
    shared = yaml.safe_load((path.parents[1] / "train.yaml").read_text("utf-8"))["subwords"]
    keys = {
        key: shared.get(key, value) if f"{value}" == f"${{subwords.{key}}}" else value for key, value in keys.items()
    }
    assert keys == vars(recipe())
    lines = ["", *path.read_text("utf-8").splitlines()]
    for above, line in pairwise(lines):  # a comment is at the end of the key's line, or above it
        assert "#" in line or above.startswith("#") or line.startswith("_target_"), line


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the Multi30k files")
def test_multi30k_round_trips(tmp_path):
    def pairs():
        with gzip.open(DATA / "train.de.gz") as src, gzip.open(DATA / "train.en.gz") as tgt:
            for de, en in zip(src, tgt, strict=True):
                yield de.rstrip(b"\n").decode(), en.rstrip(b"\n").decode()

    trained = train_pair(SentencePiece(), pairs, tmp_path)
    assert trained.joint and len(trained.src) == 8000
    lines = [line for pair in pairs() for line in pair][::7]
    encoded = trained.src.encode_batch(lines)
    assert [trained.src.decode(ids) for ids in encoded] == lines
    assert sum(map(len, encoded)) < 1.35 * sum(len(line.split()) for line in lines)  # pieces per word


def test_a_label_escapes_invisible_characters():
    spelt = "می\u200cخواهم\xa0!"
    assert printable(spelt) == spelt
    assert printable("\u202ea\x1b\n") == "\\u202ea\\x1b\\n"
    assert (printable("  "), printable("")) == ("␣␣", "")
