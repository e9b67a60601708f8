"""The run directory: all that evaluation needs, and nothing that executes."""

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from functools import partial, reduce
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from heed.component import COMPONENTS, own_code, refuse_strange_targets
from heed.config import TrainConfig, typed
from heed.files import file_name, write
from heed.seals import (
    BLANK,
    FORMAT,
    check_digests,
    check_format,
    check_text,
    measured_in,
    read_json,
    sha256,
    write_json,
    write_sealed,
)

LONGEST_NAME = 100  # characters
LONGEST_CONFIG = 1 << 18  # bytes: heed's own have some thousands, and YAML is slow to parse
DEEPEST_CONFIG = 100  # mappings and lists in each other; PyYAML takes the square of it
WITHOUT_EFFECT = (  # on the weights; `Run.claim` looks at the corpus itself, wherever it lies
    *("names", "run", "search", "test_split", "device", "data_dir", "fast"),
    *("data.source", "data.file", "data.cache", "metrics.bootstrap"),
    *(f"training.{key}" for key in ("compile", "save_every", "keep", "log_every", "num_samples")),
)
IN_PATH = ("data", "experiment", "decoder", "score", "seed")  # each by itself
FIRST_LINE = re.compile(r"# heed's record of the run, not to be edited: format (\d+), sha256 ")
log = logging.getLogger(__name__)


class Run:
    """A directory `runs/<data>/<experiment>/<score>/seed<k>/`, laid out as in docs/run-directory.md."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.metrics_file = self.path / "metrics.jsonl"
        self.facts_file = self.path / "training.json"
        self.corpus_file = self.path / "corpus.json"

    @property
    def begun(self) -> bool:
        """Whether there is something trained that could be lost."""
        return any(self.checkpoints.glob("*.safetensors"))

    @property
    def finished(self) -> bool:
        """Whether it is a run, and its training has ended."""
        unrecorded = (self.checkpoints / "best.safetensors").exists()  # an older run, or one copied in part
        return self.config_file.exists() and bool(self.facts().get("finished", unrecorded))

    def check(self, config: TrainConfig) -> None:
        """`ValueError`, naming the keys, where the directory holds a run of another configuration."""
        self.refuse_links()
        if not self.begun:
            self._refuse_to_overwrite()
            return
        differences = list(differing(relevant(self.config(mine=config)), relevant(config)))
        if differences:
            raise ValueError(
                f"{self.path} holds a run of another configuration; it has, and you ask for:\n"
                + "\n".join(f"  {key}: {there!r}, {here!r}" for key, there, here in differences)
                + "\nName another directory (make: RUN=..., script: run=...), or remove this one"
            )
        for changed in self.changed_code(config):
            raise ValueError(
                f"{changed} has changed since {self.path} was begun: bring it back, name another directory "
                "(make: RUN=..., script: run=...), or remove this one"
            )

    def _refuse_to_overwrite(self) -> None:
        """`ValueError` where the directory has files of a run's names that are no run's: they would be lost."""
        ours = self.config_file.exists() and _head(self.config_file)
        for path in () if ours else (self.config_file, self.metrics_file):
            if path.exists():
                raise ValueError(
                    f"{path} is not heed's, and training would overwrite it: name another directory (make: RUN=..., "
                    "script: run=...), or move it away"
                )

    def changed_code(self, config: TrainConfig) -> list[str]:
        """The source files of the user's own score and decoder that are not what the run was begun with."""
        try:
            known = self.facts().get("code")
        except ValueError:  # they are damaged, which `record` tells
            return []
        if not isinstance(known, dict):  # a run of before that was recorded
            return []
        digests = {group: (file, sha256(file)) for group, file in own_code(config).items()}
        return [str(file) for group, (file, digest) in digests.items() if known.get(group, digest) != digest]

    def claim(self, config: TrainConfig, prepared: Path) -> None:
        """Makes the directory, with what evaluation needs of the prepared corpus: the tokenizers and their provenance.

        `ValueError` where training has begun on another corpus, whose ids would mean other words, and where the
        configuration is so long that it would not be read again.
        """
        text = f"# heed's record of the run, not to be edited: format {FORMAT}, sha256 {BLANK}\n"
        text += OmegaConf.to_yaml(OmegaConf.create(_plain(config)))
        if (size := len(text.encode())) > LONGEST_CONFIG:
            raise ValueError(
                f"the configuration takes {size:,} bytes, more than {LONGEST_CONFIG:,}: put long lists into a file"
            )
        files = {"corpus.json": prepared / "prepare.json"}
        files |= {file.name: file for file in sorted(prepared.glob("tokenizer*.model"))}
        if self.begun:
            for name, file in files.items():
                if not (self.path / name).exists() or sha256(self.path / name) != sha256(file):
                    raise ValueError(
                        f"{self.path} was trained on another corpus than {prepared}: its {name} differs. The data, "
                        "or how heed prepares them, have changed since; bring them back, or train in another directory "
                        "(make: RUN=..., script: run=...)"
                    )
        self.path.mkdir(parents=True, exist_ok=True)
        for names in ("config.yaml", "*.json", "metrics.jsonl", "tokenizer*.model", "checkpoints/*"):
            for leftover in self.path.glob(f"{names}.tmp"):  # of a killed process
                leftover.unlink()
        for name, file in files.items():
            write(self.path / name, partial(shutil.copyfile, file))
        write_sealed(self.config_file, text)

    def facts(self) -> dict[str, Any]:
        """What training recorded about itself for comparisons. `ValueError` where that is damaged."""
        return read_json(self.facts_file) if self.facts_file.exists() else {}

    def record(self, **facts: Any) -> None:
        """Adds to `facts`."""
        try:
            earlier = self.facts()
        except ValueError as error:  # no reason to lose what was trained
            log.warning("%s; it is begun anew", error)
            earlier = {}
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.facts_file, earlier | facts)

    def metrics(self, least: int = 0) -> list[dict[str, Any]]:
        """What was measured, line by line of `metrics.jsonl`.

        Damaged lines are left out, with a warning, also where it has fewer than `least` lines.
        """
        lines = self.metrics_file.read_bytes().split(b"\n") if self.metrics_file.exists() else [b""]
        measured = [found for line in lines if (found := measured_in(line)) is not None]
        # The last one has no line end, unless a process was killed in writing it.
        if (lost := max(least, len(lines) - 1) - len(measured)) > 0:
            log.warning("%s: %d lines are damaged or lost, and left out", self.metrics_file, lost)
        return measured

    def config(self, mine: TrainConfig | None = None) -> TrainConfig:
        """The configuration that the run was made with; what `mine` names too is trusted.

        `ValueError` where there is none, or where the run is not what heed wrote: damaged, edited, of another format,
        with links that lead out of it, or a `_target_` that could run what is not yours (see docs/reliability.md).
        """
        if not self.config_file.exists():
            raise ValueError(
                f"{self.path} is not a run directory: it has no config.yaml. Train one, or name one"
            )
        self.refuse_links()
        trained = typed(TrainConfig, _read_config(self.config_file))
        for group in COMPONENTS:
            known = getattr(mine, group) if mine else {}
            refuse_strange_targets(f"{self.config_file}: {group}", getattr(trained, group), known)
        return trained

    def check_corpus(self) -> None:
        """`ValueError` where the tokenizers are not those that the run was made with."""
        known = read_json(self.corpus_file).get("files")
        if not isinstance(known, dict):
            raise ValueError(f"{self.corpus_file} does not name the tokenizers' SHA-256")
        check_digests(self.path, known, [name for name in known if name.startswith("tokenizer")])

    def check_split(self, split: str, pairs: Sequence[tuple[str, str]]) -> None:
        """`ValueError` where a held-out split is not what was held out from the run's training.

        Where a corpus is drawn or divided by chance, one line more makes another test of what was trained on.
        """
        if split == "train":  # of it only the pairs that were kept are known
            return
        known = read_json(self.corpus_file)["files"]
        for side, lines in zip(("src", "tgt"), zip(*pairs, strict=True), strict=True):
            digest = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
            if known.get(f"{split}.{side}.txt") != digest:
                raise ValueError(
                    f"{split} is not what was held out when {self.path} was trained, so that some of it may have been "
                    "trained on: its data have changed since. Bring them back, or train again; other sentences can be "
                    "translated (make translate)"
                )

    def refuse_links(self) -> None:
        """`ValueError` where a symbolic link leads out of the run: what is written to a stranger's stays in it."""
        whole = self.path.resolve()
        # Not `rglob`: it fails where another process removes what it is about to look into.
        for directory, directories, files in os.walk(self.path):
            for path in (Path(directory, name) for name in (*directories, *files)):
                if path.is_symlink() and not path.resolve().is_relative_to(whole):
                    raise ValueError(
                        f"{path} is a link out of the run, to {path.resolve()}: put there what it leads to"
                    )


def _head(path: Path) -> re.Match[str] | None:
    """The first line of a `config.yaml`, if heed wrote it."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return FIRST_LINE.match(file.readline(1000))


def _read_config(path: Path) -> DictConfig:
    """What `Run.claim` wrote; `ValueError` where it is damaged, of another format, or not from heed."""
    if not (head := _head(path)):
        raise ValueError(
            f"{path} is damaged, or of a heed before formats had numbers: use that one, or train again"
        )
    check_text(path, LONGEST_CONFIG)
    check_format(path, int(head[1]))
    text = path.read_text(encoding="utf-8")
    try:
        # An alias lets a few lines stand for gigabytes; `${…}` can ask for what the environment holds.
        if "${" in text:
            raise ValueError("heed writes no ${…} into a run")
        depth = 0
        for event in yaml.parse(text):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("heed writes no aliases into a run")
            if depth > DEEPEST_CONFIG:
                raise ValueError(f"heed nests no deeper than {DEEPEST_CONFIG}")
        return OmegaConf.create(text)  # type: ignore[return-value]  # a list is refused by `typed`
    except Exception as error:  # whatever a stranger's file makes of two parsers
        raise ValueError(f"{path}: {error!s:.500}") from None


def _plain(config: TrainConfig) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.structured(config), resolve=True)  # type: ignore[return-value]


def relevant(config: TrainConfig) -> dict[str, Any]:
    """What decides the weights; the rest may change between the parts of a run."""
    plain = _plain(config)
    for key in WITHOUT_EFFECT:
        *groups, last = key.split(".")
        reduce(dict.__getitem__, groups, plain).pop(last, None)
    return plain


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"search": {"beam": 5}}` as `{"search.beam": 5}`."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def differing(there: dict[str, Any], here: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The leaves in which two nested dictionaries differ: dotted key, value there, value here (None: not there)."""
    there, here = flat(there), flat(here)
    for key in dict.fromkeys([*there, *here]):
        if there.get(key) != here.get(key):
            yield key, there.get(key), here.get(key)


def default_path(names: dict[str, str], seed: int, overrides: Sequence[str]) -> Path:
    """`runs/<data>/<experiment>/<score>/seed<k>`.

    The experiment is the recipe's name (unless it is that of the data), the decoder's, and each override that changes
    what is learned, so that another configuration gets another directory. Where a corpus lies is no such thing.
    """
    data, recipe = names.get("data", "data"), names.get("experiment", "default")
    parts = [recipe if recipe != data else "", names.get("decoder", "decoder")]
    # The class is the score's name where there is no YAML of it.
    without = any(one.partition("=")[0] == "~score" for one in overrides)
    in_path = (*IN_PATH, "score._target_") if without else IN_PATH
    parts += sorted(
        file_name(override.lstrip("+"))  # it has to be named in commands
        for override in overrides
        if (key := override.lstrip("+~").partition("=")[0]) not in in_path
        and not f"{key}.".startswith(tuple(f"{one}." for one in WITHOUT_EFFECT))
    )
    experiment = "-".join(filter(None, parts))
    if len(experiment) > LONGEST_NAME:  # a file system takes no name of more than 255 bytes
        digest = hashlib.sha256(experiment.encode()).hexdigest()[:8]
        experiment = f"{experiment[:LONGEST_NAME]}-{digest}"
    return Path("runs") / data / experiment / names["score"] / f"seed{seed}"
