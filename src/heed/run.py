"""The run directory: all that evaluation needs, and nothing that executes."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from heed.config import TrainConfig, typed
from heed.files import write


class Run:
    """A directory `runs/<data>/<experiment>/<score>/seed<k>/`, laid out as in docs/run-directory.md."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.metrics_file = self.path / "metrics.jsonl"

    def check(self, config: TrainConfig) -> None:
        """`ValueError`, naming the keys, where the directory holds a run of another configuration."""
        if not self.config_file.exists():
            return
        differences = list(differing(_plain(self.config()), _plain(config)))
        if differences:
            raise ValueError(
                f"{self.path} holds a run of another configuration; it has, and you ask for:\n"
                + "\n".join(f"  {key}: {there!r}, {here!r}" for key, there, here in differences)
                + "\nName another directory (make: RUN=..., script: run=...), or remove this one"
            )

    def claim(self, config: TrainConfig, tokenizers: Path) -> None:
        """Makes the directory: the configuration, and copies of the tokenizer files in `tokenizers`, so that it stands alone."""
        self.path.mkdir(parents=True, exist_ok=True)
        for file in sorted(tokenizers.glob("tokenizer*.model")):
            write(self.path / file.name, partial(shutil.copyfile, file))
        write(self.config_file, partial(OmegaConf.save, OmegaConf.create(_plain(config))))

    def config(self) -> TrainConfig:
        """The configuration that the run was made with. `ValueError` where there is none."""
        if not self.config_file.exists():
            raise ValueError(
                f"{self.path} is not a run directory: it has no config.yaml. Train one, or name one"
            )
        return typed(TrainConfig, OmegaConf.load(self.config_file))  # type: ignore[arg-type]


def _plain(config: TrainConfig) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.structured(config), resolve=True)  # type: ignore[return-value]


def differing(there: Any, here: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The leaves in which two nested dictionaries differ: dotted key, value there, value here (None: not there)."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in dict.fromkeys([*there, *here]):
            yield from differing(there.get(name), here.get(name), f"{key}.{name}" if key else name)
    elif there != here:
        yield key, there, here


def default_path(names: dict[str, str], seed: int) -> Path:
    """`runs/<data>/<experiment>/<score>/seed<k>`; the experiment is named by its YAML, if not that of the data, and the wiring."""
    data, experiment, decoder = (names.get(group, "default") for group in ("data", "experiment", "decoder"))
    experiment = decoder if experiment == data else f"{experiment}-{decoder}"
    return Path("runs") / data / experiment / names["score"] / f"seed{seed}"
