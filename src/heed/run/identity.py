"""Identify runs: their default paths, and the settings in which two runs differ."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from heed.config.schema import TrainConfig
from heed.files.names import file_name

LONGEST_NAME = 100  # characters
# Keys that do not change the weights. (`Run.claim` compares the corpus itself, wherever it lies.)
WITHOUT_EFFECT = (
    *("names", "run", "search", "test_split", "device", "data_dir", "fast"),
    *("data.source", "data.file", "data.cache", "metrics.bootstrap"),
    *(f"training.{key}" for key in ("compile", "save_every", "keep", "log_every", "num_samples", "strict_resume")),
)
IN_PATH = ("data", "experiment", "decoder", "score", "seed")  # each has its own part of the path


def to_plain(config: TrainConfig) -> dict[str, Any]:
    """Return the configuration as nested dictionaries of plain values."""
    return OmegaConf.to_container(OmegaConf.structured(config), resolve=True)  # type: ignore[return-value]


def relevant(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that determine the weights. The others may change between the parts of a run."""
    plain = to_plain(config)
    for key in WITHOUT_EFFECT:
        *groups, last = key.split(".")
        reduce(dict.__getitem__, groups, plain).pop(last, None)
    return plain


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{"search": {"beam": 5}}` as `{"search.beam": 5}`."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def differing(first: dict[str, Any], second: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted keys in which two nested dictionaries differ, with both values (None: the key is missing)."""
    first, second = flat(first), flat(second)
    for key in dict.fromkeys([*first, *second]):
        if first.get(key) != second.get(key):
            yield key, first.get(key), second.get(key)


def default_path(names: dict[str, str], seed: int, overrides: Sequence[str]) -> Path:
    """Return `runs/<data>/<experiment>/<score>/seed<k>`.

    The experiment consists of the recipe's name (unless it is the data's), the decoder's name, and each override that
    changes what is learned. So another configuration gets another directory.
    """
    data, recipe = names.get("data", "data"), names.get("experiment", "default")
    parts = [recipe if recipe != data else "", names.get("decoder", "decoder")]
    # A score without a YAML goes by its class.
    no_yaml = any(one.partition("=")[0] == "~score" for one in overrides)
    in_path = (*IN_PATH, "score._target_") if no_yaml else IN_PATH
    parts += sorted(
        file_name(override.lstrip("+"))
        for override in overrides
        if (key := override.lstrip("+~").partition("=")[0]) not in in_path
        and not f"{key}.".startswith(tuple(f"{one}." for one in WITHOUT_EFFECT))
    )
    experiment = "-".join(filter(None, parts))
    if len(experiment) > LONGEST_NAME:  # a file system takes no name of more than 255 bytes
        digest = hashlib.sha256(experiment.encode()).hexdigest()[:8]
        experiment = f"{experiment[:LONGEST_NAME]}-{digest}"
    return Path("runs") / data / experiment / names["score"] / f"seed{seed}"
