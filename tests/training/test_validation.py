"""Validation: what it measures, when, and what its numbers decide."""

import math
import re
from pathlib import Path

import pytest
import torch
from helpers.runs import write_corpus
from helpers.training import make, scripted

from heed.errors import DivergedError
from heed.run.checkpoints import read_weights
from heed.run.directory import Run
from heed.text import BOS, EOS


def test_validation_measures_the_validation_split(tmp_path: Path, monkeypatch) -> None:
    """The loss by hand, pair by pair, and what BLEU is asked."""
    asked: dict[str, object] = {}

    def bleu(hypotheses: object, references: object, **options: object) -> float:
        asked.update(options, references=references)
        return 1.0

    monkeypatch.setattr("heed.training.validation.bleu", bleu)
    trainer = make(tmp_path, "run", "training.precision=fp32", "metrics.tokenize=none", "metrics.lowercase=true")
    found, _ = trainer.validator(trainer.model.train())
    sources, references = ((tmp_path / "corpus" / f"val.{side}").read_text().split("\n")[:-1] for side in ("de", "en"))
    assert list(asked.pop("references")) == references and asked == {"tokenize": "none", "lowercase": True}
    tokenizers, model = trainer.validator.tokenizers, trainer.model.eval().requires_grad_(False)
    nll, entropy, tokens = 0.0, 0.0, 0
    for source, reference in zip(sources, references, strict=True):
        src = torch.tensor([[*tokenizers.src.encode(source), EOS]])
        tgt = torch.tensor([[BOS, *tokenizers.tgt.encode(reference), EOS]])
        readouts, alignment = model(src, torch.tensor([src.size(1)]), tgt[:, :-1])
        nll += float(torch.nn.functional.cross_entropy(model.output(readouts)[0], tgt[0, 1:], reduction="sum"))
        entropy += float(-(alignment * alignment.log()).sum() / math.log(src.size(1)))
        tokens += tgt.size(1) - 1
    assert found["val/loss"] == pytest.approx(nll / tokens, rel=1e-5)
    assert found["val/attention_entropy"] == pytest.approx(entropy / tokens, rel=1e-4)


def test_long_validation_sentences_are_cut(tmp_path: Path, caplog, monkeypatch) -> None:
    """The alignment of a line of 80 kB would take 1.6 GB."""
    write_corpus(tmp_path / "corpus")
    for side, word in (("de", "muh "), ("en", "MUH ")):
        with open(tmp_path / "corpus" / f"val.{side}", "a") as file:
            file.write(word * 20_003 + "\n")
    monkeypatch.setattr("heed.training.validation.LONGEST", 41)
    trainer = make(tmp_path, "run")
    assert "2 validation sentences have more than 41 pieces" in caplog.text
    *_, longest = trainer.validator.batches.once()
    assert longest.src.shape == longest.tgt_in.shape == (1, 20_004)
    found, _ = trainer.validator(trainer.model)
    assert math.isfinite(found["val/loss"])
    short = longest.cut(11)
    assert {tuple(one.shape) for one in (short.src, short.tgt_in, short.tgt_out)} == {(1, 11)}
    assert short.src_lengths.tolist() == short.tgt_lengths.tolist() == [11]


def test_validation_lets_a_translation_be_as_long_as_its_reference(tmp_path: Path) -> None:
    """From Chinese to English characters, references exceed the search's own limit, 2 S + 10."""
    corpus = write_corpus(tmp_path / "corpus")
    lengths = []
    for words in (9, 26):
        references = ["DU " * words] * 199 + ["DU " * 50]  # the last is a stray pair
        (corpus / "val.de").write_text("du\n" * 200)
        (corpus / "val.en").write_text("".join(f"{line.strip()}\n" for line in references))
        trainer = make(tmp_path, f"run{words}", "training.num_samples=1")
        with torch.no_grad():
            trainer.model.output.bias[EOS] = -1e4  # it never ends
        _, samples = trainer.validator(trainer.model)
        lengths.append(len(samples[0][2].pieces))
    assert lengths == [2 * 2 + 10, 9 * 2 + 10]  # 9 is the least ratio that 27 pieces need


@pytest.mark.parametrize("accumulate", [1, 3, 5])
def test_it_validates_once_per_epoch_however_many_batches_an_update_has(
    tmp_path: Path, accumulate: int, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make(tmp_path, "run", f"training.accumulate={accumulate}")
    trainer.validator = scripted([1.0])
    assert len(trainer.batches) % 3 and len(trainer.batches) % 5
    assert trainer.train()
    epochs = re.findall(r"epoch (\d+): val", "".join(capsys.readouterr()))
    assert len(epochs) == 3 and epochs[-1] == "3"


def test_patience_ends_the_run(tmp_path: Path) -> None:
    trainer = make(
        tmp_path, "run", "training.patience=2", "training.max_epochs=50", "training.learning_rate=0",
        "training.monitor=loss",
    )  # fmt: skip
    trainer.validator = scripted([1.0])
    assert trainer.train()
    assert trainer.step == 3 * trainer.validate_every, "first is best, then two that are not better"


@pytest.mark.parametrize(("monitor", "values", "best"), [("bleu", [1.0, 3.0, 2.0], 1), ("loss", [2.0, 3.0, 1.0], 2)])
def test_the_best_of_the_averaged_weights_are_kept(
    tmp_path: Path, monitor: str, values: list[float], best: int
) -> None:
    trainer = make(tmp_path, "run", f"training.monitor={monitor}", "training.batch_tokens=150")
    seen: list[torch.nn.Module] = []
    trainer.validator = scripted(values, seen)
    assert trainer.train() and len(seen) == 3
    assert any(
        not torch.equal(*both) for both in zip(seen[-1].parameters(), trainer.model.parameters(), strict=True)
    ), "the average is another model"
    for name, expected in (("best", seen[best]), ("last", seen[-1])):
        weights, _ = read_weights(tmp_path / "run" / "checkpoints", name)
        for key, parameter in expected.named_parameters():
            assert torch.equal(weights[key], parameter), (name, key)


@pytest.mark.parametrize(("monitor", "better"), [("bleu", [1.0, 2.0, 3.0]), ("loss", [3.0, 2.0, 1.0])])
def test_a_plateau_halves_the_rate_in_training(tmp_path: Path, monitor: str, better: list[float]) -> None:
    for values, factor in ((better, 1), (better[::-1], 0.5)):
        more = ("training.schedule=plateau", f"training.monitor={monitor}", "training.batch_tokens=150")
        trainer = make(tmp_path, f"run{factor}", *more)
        trainer.validator = scripted(values)
        assert trainer.train()
        assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.002 * factor)


def test_weights_that_are_not_finite_are_not_kept_by_a_validation(tmp_path: Path, monkeypatch) -> None:
    trainer = make(tmp_path, "run", "training.keep=2", "training.monitor=bleu")
    with torch.no_grad():
        trainer.model.output.bias[3] = math.inf
    monkeypatch.setattr(trainer, "update", lambda _: setattr(trainer, "step", trainer.validate_every) or 1)
    with pytest.raises(DivergedError, match="weights are not finite"):
        trainer.train()
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_without_attention_its_diagnostics_are_not_logged(tmp_path: Path) -> None:
    logged = []
    for score in ("none", "uniform"):
        assert make(tmp_path, score, f"score={score}", "training.max_epochs=1").train()
        logged.append([line for line in Run(tmp_path / score).metrics() if "val/bleu" in line][-1])
    assert logged[1].keys() - logged[0].keys() == {"val/attention_entropy", "val/attention_monotonicity"}
