"""Default paths of runs."""

from pathlib import Path

from heed.run.identity import default_path


def test_an_override_of_what_is_learned_gets_its_own_directory() -> None:
    names = {"data": "grammar", "experiment": "grammar", "decoder": "luong", "score": "dot"}
    without_effect = [
        "search.width=3",
        "search=greedy",
        "fast=false",
        "run=null",
        "test_split=val",
        "training.compile=true",
        "training.strict_resume=true",
    ]
    path = default_path(names, 2, ["score=dot", "seed=2", *without_effect])
    assert path == Path("runs/grammar/luong/dot/seed2")
    chars = default_path(names, 1, ["tokenizer=char", "subwords.vocab_size=500"])
    assert chars == Path("runs/grammar/luong-subwords.vocab_size_500-tokenizer_char/dot/seed1")
    own = default_path(names | {"experiment": "deep"}, 1, ["training.max_epochs=5", "model.cell=lstm"])
    assert own == Path("runs/grammar/deep-luong-model.cell_lstm-training.max_epochs_5/dot/seed1")
    pair = ["data.source=/some/where", "data.src=de", "data.tgt=fr", "training.log_every=7", "max_length=90"]
    other = default_path(names, 1, ["score=dot", "score._target_=mine.Dot"])
    assert other == Path("runs/grammar/luong-score._target__mine.Dot/dot/seed1")
    assert default_path(names, 1, pair) == Path("runs/grammar/luong-data.src_de-data.tgt_fr-max_length_90/dot/seed1")
    del names["experiment"]
    # As Hydra hands it to a job of a multirun.
    swept = ["~score=null", "+score._target_=mine.Dot", "+score.power=2"]
    assert default_path(names, 1, swept) == default_path(names, 1, ["~score", *swept[1:]])
    assert default_path(names, 1, ["~score", "+score._target_=mine.Dot", "+score.power=2"]) == Path(
        "runs/grammar/default-luong-score.power_2/dot/seed1"
    )


def test_long_names_end_in_a_digest() -> None:
    names = {"data": "grammar", "decoder": "luong", "score": "dot"}
    paths = {default_path(names, 1, [f"data.pattern={'x' * 300}{end}"]) for end in "ab"}
    assert len(paths) == 2 and all(len(part) < 255 for path in paths for part in path.parts)
