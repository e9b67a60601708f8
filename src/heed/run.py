"""The run directory: all that evaluation needs, and nothing that executes."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from heed.config import TrainConfig, typed
from heed.files import write

LONGEST_NAME = 100  # characters


class Run:
    """A directory `runs/<data>/<experiment>/<score>/seed<k>/`, laid out as in docs/run-directory.md."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.metrics_file = self.path / "metrics.jsonl"
        self.facts_file = self.path / "training.json"

    def check(self, config: TrainConfig) -> None:
        """`ValueError`, naming the keys, where the directory holds a run of another configuration."""
        if not any(self.checkpoints.glob("*.pt")):
            return  # nothing trained yet, so nothing to be lost
        differences = list(differing(relevant(self.config()), relevant(config)))
        if differences:
            raise ValueError(
                f"{self.path} holds a run of another configuration; it has, and you ask for:\n"
                + "\n".join(f"  {key}: {there!r}, {here!r}" for key, there, here in differences)
                + "\nName another directory (make: RUN=..., script: run=...), or remove this one"
            )

    def claim(self, config: TrainConfig, prepared: Path) -> None:
        """Makes the directory, with what evaluation needs of the prepared corpus: the tokenizers and their provenance.

        `ValueError` where training has begun on another corpus, whose ids would mean other words.
        """
        files = {"corpus.json": prepared / "prepare.json"}
        files |= {file.name: file for file in sorted(prepared.glob("tokenizer*.model"))}
        if any(self.checkpoints.glob("*.pt")):
            for name, file in files.items():
                if not (self.path / name).exists() or (self.path / name).read_bytes() != file.read_bytes():
                    raise ValueError(
                        f"{self.path} was trained on another corpus than {prepared}: its {name} differs. The data have "
                        "changed since; bring them back, or train in another directory (make: RUN=..., script: run=...)"
                    )
        self.path.mkdir(parents=True, exist_ok=True)
        for name, file in files.items():
            write(self.path / name, partial(shutil.copyfile, file))
        write(self.config_file, partial(OmegaConf.save, OmegaConf.create(_plain(config))))

    def facts(self) -> dict[str, Any]:
        """What training recorded about itself for comparisons; nothing in a run that is older than such records."""
        return json.loads(self.facts_file.read_text(encoding="utf-8")) if self.facts_file.exists() else {}

    def record(self, **facts: Any) -> None:
        """Adds to `facts`."""
        content = json.dumps(self.facts() | facts, indent=2) + "\n"
        self.path.mkdir(parents=True, exist_ok=True)
        write(self.facts_file, lambda path: path.write_text(content, encoding="utf-8"))

    def config(self) -> TrainConfig:
        """The configuration that the run was made with. `ValueError` where there is none."""
        if not self.config_file.exists():
            raise ValueError(
                f"{self.path} is not a run directory: it has no config.yaml. Train one, or name one"
            )
        return typed(TrainConfig, OmegaConf.load(self.config_file))  # type: ignore[arg-type]


def _plain(config: TrainConfig) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.structured(config), resolve=True)  # type: ignore[return-value]


def relevant(config: TrainConfig) -> dict[str, Any]:
    """What decides the weights; the rest may change between the parts of a run."""
    plain = _plain(config)
    for key in ("names", "search", "test_split", "device", "data_dir"):
        del plain[key]
    del plain["metrics"]["bootstrap"], plain["training"]["compile"]
    return plain


def differing(there: Any, here: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The leaves in which two nested dictionaries differ: dotted key, value there, value here (None: not there)."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in dict.fromkeys([*there, *here]):
            yield from differing(there.get(name), here.get(name), f"{key}.{name}" if key else name)
    elif there != here:
        yield key, there, here


def default_path(names: dict[str, str], seed: int, overrides: Sequence[str]) -> Path:
    """`runs/<data>/<experiment>/<score>/seed<k>`.

    The experiment is the recipe's name (unless it is that of the data), the decoder's, and each override that changes
    what is learned, so that another configuration gets another directory.
    """
    data, recipe = names.get("data", "data"), names.get("experiment", "")
    parts = [recipe if recipe != data else "", names.get("decoder", "decoder")]
    learned = r"(model|training(?!\.compile=)|tokenizer|subwords|decoder|score)\.|(model|training|tokenizer)="
    # Without what a shell or Hydra takes for its own: the directory has to be named in commands.
    parts += sorted(
        re.sub(r"[^\w.+-]+", "_", override) for override in overrides if re.match(learned, override)
    )
    experiment = "-".join(filter(None, parts))
    if len(experiment) > LONGEST_NAME:  # a file system takes no name of more than 255 bytes
        digest = hashlib.sha256(experiment.encode()).hexdigest()[:8]
        experiment = f"{experiment[:LONGEST_NAME]}-{digest}"
    return Path("runs") / data / experiment / names["score"] / f"seed{seed}"
