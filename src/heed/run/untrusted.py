"""Checks of run directories, which may come from anywhere. Nothing in them is executed."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from heed.config.components import COMPONENTS
from heed.config.sources import CONFIGS, user_config_dirs
from heed.errors import UserError
from heed.files.atomic import reading
from heed.files.checksums import check_format, verify_text_file

LARGEST_CONFIG = 1 << 18  # bytes: heed's own configurations have some thousands, and YAML is slow to parse
DEEPEST_CONFIG = 100  # nested mappings and lists; PyYAML needs the square of this in time
FIRST_LINE = re.compile(r"# heed's record of the run, not to be edited: format (\d+), sha256 ")


def first_line(path: Path) -> re.Match[str] | None:
    """Match the first line of a `config.yaml` that heed wrote."""
    with reading(path), open(path, encoding="utf-8", errors="replace") as file:
        return FIRST_LINE.match(file.readline(1000))


def read_config(path: Path) -> DictConfig:
    """Read a run's `config.yaml`. Raises `UserError` if it is damaged, of another format, or not written by heed."""
    if not (head := first_line(path)):
        raise UserError(f"{path} is damaged, or was not written by heed: train the run again")
    verify_text_file(path, LARGEST_CONFIG)
    check_format(path, int(head[1]))
    try:
        text = path.read_text(encoding="utf-8")
        # With aliases a few lines could expand to gigabytes, and `${…}` could read environment variables.
        if "${" in text:
            raise UserError("heed writes no ${…} into a run")
        depth = 0
        for event in yaml.parse(text):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise UserError("heed writes no aliases into a run")
            if depth > DEEPEST_CONFIG:
                raise UserError(f"heed nests no deeper than {DEEPEST_CONFIG}")
        return OmegaConf.create(text)  # type: ignore[return-value]  # `typed` refuses a list
    except Exception as error:  # two parsers raise many types of errors for untrusted text
        raise UserError(f"{path}: {error!s:.500}") from None


def refuse_unknown_target(group: str, config: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raise `UserError` if a run's `_target_` is neither heed's nor named by the user's own configuration.

    To look up a class, Python imports its module, which may do anything. So heed imports a run's target only if the
    user names it too: in the configuration `own`, in `configs/`, in a `--config-dir` or `hydra.searchpath`, or by a
    module that is imported already.
    """
    target = str(config.get("_target_"))
    module = target.rpartition(".")[0]
    if module.startswith("heed.") or module in sys.modules or target == own.get("_target_"):
        return
    groups = [one / group for one in (CONFIGS, *user_config_dirs()) for group in (*COMPONENTS, "experiment")]
    for path in (file for group in groups for file in group.rglob("*.yaml")):
        try:
            content: Any = OmegaConf.to_container(OmegaConf.load(path))
        except Exception as error:
            raise UserError(f"{path} cannot be read: {error}") from None
        if target in _targets(content):
            return
    raise UserError(
        f"{group}._target_ is {target!r}, which is neither heed's nor in your configs/: it is not imported. If you "
        "trust it, name it in a YAML there, or give a --config-dir that has one"
    )


def _targets(content: Any) -> Iterator[Any]:
    """Yield every `_target_` of a configuration, at any depth."""
    for key, value in content.items() if isinstance(content, dict) else ():
        if key == "_target_":
            yield value
        yield from _targets(value)


def refuse_links(directory: Path) -> None:
    """Raise `UserError` if a symbolic link leads out of the directory: heed writes into runs, and only there."""
    inside = directory.resolve()
    # Not `rglob`: it fails if another process removes a directory that it is about to list.
    for parent, directories, files in os.walk(directory):
        for path in (Path(parent, name) for name in (*directories, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise UserError(f"{path} is a link out of the run, to {path.resolve()}: replace it by what it leads to")
