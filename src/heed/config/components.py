"""Build the objects that a `_target_` of the configuration names. This module does not import torch by itself."""

import importlib
import inspect
import traceback
from collections.abc import Mapping
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.utils import get_class
from omegaconf import OmegaConf

from heed.config.schema import TrainConfig, typed
from heed.data.corpus import Corpus
from heed.errors import UserError
from heed.text.base import TokenizerSettings

COMPONENTS = ("data", "tokenizer", "score", "decoder")  # the groups of a TrainConfig with a `_target_`
T = TypeVar("T")


def component(group: str, config: Mapping[str, Any], interface: type[T], **given: Any) -> T:
    """Return an instance of `config`'s `_target_`, made with `given` and the other keys of `config`.

    Args:
        group: the group of the configuration, for messages.
        config: `_target_`, the name of a class, and keyword arguments of the class.
        interface: the base class of the target.
        given: arguments that heed passes to the class itself.

    Raises:
        UserError: the target cannot be imported, is not a subclass of `interface`, or lacks one of its methods. Or the
            class does not take a key, needs another key, or takes values of another type.
    """
    keys = {key: value for key, value in config.items() if key != "_target_"}
    target = config.get("_target_")
    cls = _class_of(group, config)
    if not issubclass(cls, interface):
        raise UserError(f"{group}._target_ is {target!r}: it must be a subclass of {interface.__name__}")
    if lacking := ", ".join(sorted(getattr(cls, "__abstractmethods__", ()))):
        raise UserError(f"{group}._target_ is {target!r}, which does not define {lacking}")
    try:
        signature = inspect.signature(cls, eval_str=True)
    except NameError:  # an annotation uses a name that only type checkers import
        signature = inspect.signature(cls)
    accepted = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if name not in given and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    unknown = sorted(set(keys) - set(accepted))
    if unknown:
        raise UserError(
            f"{group} has no key {', '.join(unknown)}: {cls.__name__} takes {', '.join(accepted) or 'none'}"
        )
    missing = [n for n, p in accepted.items() if p.default is inspect.Parameter.empty and n not in keys]
    if missing:
        raise UserError(f"{group} lacks {', '.join(missing)}, which {cls.__name__} needs")
    types = {name: _known(accepted[name].annotation) for name in keys}
    values: Any = typed(make_dataclass(group, types.items()), dict(keys), group)
    return cls(**given, **{name: getattr(values, name) for name in keys})


def _class_of(group: str, config: Mapping[str, Any]) -> type:
    """Import the `_target_`. Raises `UserError` with the cause if that fails."""
    target = config.get("_target_")
    try:
        cls: type = get_class(str(target))
    except Exception as error:
        raise UserError(
            f"{group}._target_ is {target!r}, which cannot be imported: {_cause(error, str(target))}"
        ) from error
    return cls


def _cause(error: Exception, target: str) -> str:
    """Return Hydra's message, or the module's own error with its file and line."""
    cause = error.__cause__
    if cause is None or (isinstance(cause, ModuleNotFoundError) and target.startswith(str(cause.name))):
        module = target.partition(".")[0]
        missing = isinstance(cause, ModuleNotFoundError) and cause.name == module
        advice = [f"Put the directory that holds {module}.py on PYTHONPATH"] if missing else []
        return " ".join([*str(error).split(), *advice])
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(cause.__traceback__)]
    others = ("<", str(Path(hydra.__file__).parent), str(Path(importlib.__file__).parent))
    places = [f" ({file}, line {line})" for file, line in frames if not file.startswith(others)]
    return f"{type(cause).__name__}: {cause}{places[-1] if places else ''}"


def trust(config: TrainConfig) -> None:
    """Import the components that the user's command names, so that a run may name them too."""
    for group in COMPONENTS:
        _class_of(group, getattr(config, group))


def own_code(config: TrainConfig) -> dict[str, Path]:
    """Return the source files of a score and a decoder that are the user's own, by group."""
    parts = {"score": config.score, "decoder": config.decoder}
    own = {group: part for group, part in parts.items() if not str(part.get("_target_")).startswith("heed.")}
    files = {group: inspect.getsourcefile(_class_of(group, part)) for group, part in own.items()}
    return {group: Path(file) for group, file in files.items() if file}


def _known(annotation: Any) -> Any:
    """Return the annotation if OmegaConf can check its values, else `Any`."""
    try:
        OmegaConf.structured(make_dataclass("probe", [("key", annotation)]))
        return annotation
    except Exception:
        return Any


def build_corpus(config: Mapping[str, Any]) -> Corpus:
    """Return the corpus that a YAML of `configs/data/` describes."""
    return component("data", config, Corpus)  # type: ignore[type-abstract]


def build_tokenizer_settings(config: Mapping[str, Any]) -> TokenizerSettings:
    """Return the tokenizer settings that a YAML of `configs/tokenizer/` describes."""
    return component("tokenizer", config, TokenizerSettings)  # type: ignore[type-abstract]
