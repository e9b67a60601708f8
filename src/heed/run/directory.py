"""The run directory: all that evaluation needs, and nothing that executes."""

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from heed.config.components import COMPONENTS, own_code
from heed.config.schema import TrainConfig, typed
from heed.errors import UserError
from heed.files.atomic import write
from heed.files.checksums import (
    FORMAT,
    PLACEHOLDER,
    read_json,
    sha256,
    verify_digests,
    write_checksummed,
    write_json,
)
from heed.run.identity import differing, relevant, to_plain
from heed.run.untrusted import (
    LARGEST_CONFIG,
    first_line,
    read_config,
    refuse_links,
    refuse_unknown_target,
)

ELSEWHERE = "name another directory (make: RUN=..., script: run=...)"
log = logging.getLogger(__name__)


class Run:
    """A directory `runs/<data>/<experiment>/<score>/seed<k>/`, laid out as in docs/run-directory.md."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.metrics_file = self.path / "metrics.jsonl"
        self.record_file = self.path / "training.json"
        self.corpus_file = self.path / "corpus.json"

    @property
    def begun(self) -> bool:
        """True if the directory holds trained weights."""
        return any(self.checkpoints.glob("*.safetensors"))

    @property
    def finished(self) -> bool:
        """True if this is a run whose training has ended."""
        has_best = (self.checkpoints / "best.safetensors").exists()  # all there is in a run copied without its record
        return self.config_file.exists() and bool(self.record().get("finished", has_best))

    def check(self, config: TrainConfig) -> None:
        """Raise `UserError`, naming the keys, if the directory holds a run of another configuration."""
        refuse_links(self.path)
        if not self.begun:
            self._refuse_to_overwrite()
            return
        differences = list(differing(relevant(self.config(own=config)), relevant(config)))
        if differences:
            raise UserError(
                f"{self.path} holds a run of another configuration; it has, and you ask for:\n"
                + "\n".join(f"  {key}: {has!r}, {asked!r}" for key, has, asked in differences)
                + f"\n{ELSEWHERE.capitalize()}, or remove this one"
            )
        for changed in self.changed_code(config):
            raise UserError(
                f"{changed} has changed since {self.path} was begun: restore it, {ELSEWHERE}, or remove this one"
            )

    def _refuse_to_overwrite(self) -> None:
        """Raise `UserError` if the directory has another program's files under the names of a run's files."""
        if self.config_file.exists() and first_line(self.config_file):
            return
        for path in (self.config_file, self.metrics_file):
            if path.exists():
                raise UserError(f"{path} is not heed's, and training would overwrite it: {ELSEWHERE}, or move it away")

    def changed_code(self, config: TrainConfig) -> list[str]:
        """Return the source files of the user's own score and decoder that have changed since the run was begun."""
        try:
            known = self.record().get("code", {})
        except UserError:  # the record is damaged: `add_record` warns
            return []
        digests = {group: (file, sha256(file)) for group, file in own_code(config).items()}
        return [str(file) for group, (file, digest) in digests.items() if known.get(group, digest) != digest]

    def claim(self, config: TrainConfig, prepared: Path) -> None:
        """Write the configuration, the tokenizers and the corpus's description into the directory.

        Raises `UserError` if training has begun on another corpus, and if the configuration is too long to be read
        again.
        """
        text = f"# heed's record of the run, not to be edited: format {FORMAT}, sha256 {PLACEHOLDER}\n"
        text += OmegaConf.to_yaml(OmegaConf.create(to_plain(config)))
        if (size := len(text.encode())) > LARGEST_CONFIG:
            raise UserError(
                f"the configuration takes {size:,} bytes, more than {LARGEST_CONFIG:,}: put long lists into a file"
            )
        files = {"corpus.json": prepared / "prepare.json"}
        files |= {file.name: file for file in sorted(prepared.glob("tokenizer*.model"))}
        if self.begun:
            for name, file in files.items():
                if not (self.path / name).exists() or sha256(self.path / name) != sha256(file):
                    raise UserError(
                        f"{self.path} was trained on another corpus than {prepared}: its {name} differs. The data, "
                        f"or how heed prepares them, have changed since. Restore them, or {ELSEWHERE}"
                    )
        self.path.mkdir(parents=True, exist_ok=True)
        for names in ("config.yaml", "*.json", "metrics.jsonl", "tokenizer*.model", "checkpoints/*"):
            for leftover in self.path.glob(f"{names}.tmp"):  # of a killed process
                leftover.unlink()
        for name, file in files.items():
            write(self.path / name, partial(shutil.copyfile, file))
        write_checksummed(self.config_file, text)

    def record(self) -> dict[str, Any]:
        """Return what training recorded in `training.json`. Raises `UserError` if the file is damaged."""
        return read_json(self.record_file) if self.record_file.exists() else {}

    def add_record(self, **values: Any) -> None:
        """Add values to the record. A damaged record is replaced, with a warning: the weights are worth more."""
        try:
            earlier = self.record()
        except UserError as error:
            log.warning("%s; a new one is begun", error)
            earlier = {}
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.record_file, earlier | values)

    def metrics(self, expected: int = 0) -> list[dict[str, Any]]:
        """Return the lines of `metrics.jsonl`. Warns of damaged lines, and if there are fewer than `expected`."""
        lines = self.metrics_file.read_bytes().split(b"\n") if self.metrics_file.exists() else [b""]
        metrics = [found for line in lines if (found := _parse(line)) is not None]
        # The last line ends in a line feed unless a process was killed while it wrote.
        if (lost := max(expected, len(lines) - 1) - len(metrics)) > 0:
            log.warning("%s: %d lines are damaged or lost, and left out", self.metrics_file, lost)
        return metrics

    def config(self, own: TrainConfig | None = None) -> TrainConfig:
        """Return the configuration that the run was made with. Targets that `own` names too are trusted.

        Raises `UserError` if there is none, or if the file is damaged, edited or of another format. Links that lead out
        of the run, and a `_target_` that could import untrusted code, are refused too (see docs/reliability.md).
        """
        if not self.config_file.exists():
            raise UserError(f"{self.path} is not a run directory: it has no config.yaml. Train one, or name one")
        refuse_links(self.path)
        trained = typed(TrainConfig, read_config(self.config_file))
        for group in COMPONENTS:
            known = getattr(own, group) if own else {}
            refuse_unknown_target(f"{self.config_file}: {group}", getattr(trained, group), known)
        return trained

    def check_corpus(self) -> None:
        """Raise `UserError` unless the tokenizers are those that the run was made with."""
        known = read_json(self.corpus_file).get("files")
        if not isinstance(known, dict):
            raise UserError(f"{self.corpus_file} does not name the tokenizers' SHA-256")
        verify_digests(self.path, known, [name for name in known if name.startswith("tokenizer")])

    def check_split(self, split: str, pairs: Sequence[tuple[str, str]]) -> None:
        """Raise `UserError` unless these pairs are what was held out from the run's training.

        With splits drawn at random, one more line in the corpus would move training pairs into the test split.
        """
        if split == "train":  # its digest is of the kept pairs alone
            return
        known = read_json(self.corpus_file)["files"]
        for side, lines in zip(("src", "tgt"), zip(*pairs, strict=True), strict=True):
            digest = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
            if known.get(f"{split}.{side}.txt") != digest:
                raise UserError(
                    f"{split} is not what was held out when {self.path} was trained: its data have changed, and some "
                    "of its pairs may have been trained on. Restore the data, or train again; make translate takes "
                    "any sentences"
                )


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return a line of `metrics.jsonl`, or None if it is damaged."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("step"), int) else None
