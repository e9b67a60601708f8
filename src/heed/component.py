"""Part of a configuration to object: the place where a `_target_` becomes an object. Imports no torch by itself."""

import importlib
import inspect
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import make_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class
from omegaconf import OmegaConf

from heed.config import CONFIGS, TrainConfig, typed
from heed.data.corpus import Corpus
from heed.text.tokenizer import TokenizerSettings

COMPONENTS = ("data", "tokenizer", "score", "decoder")  # the groups of a TrainConfig that have a `_target_`
T = TypeVar("T")
logging.getLogger("hydra.utils").disabled = True  # it would tell of what cannot be imported once more


def component(group: str, config: Mapping[str, Any], interface: type[T], **given: Any) -> T:
    """Makes what `config` describes: `_target_`, a subclass of `interface`, called with `given` and the other keys.

    `ValueError` names a target that is missing, cannot be imported, is no such subclass or lacks a method of it, and a
    key that its class does not take or whose value has the wrong type.
    """
    keys = {key: value for key, value in config.items() if key != "_target_"}
    target = config.get("_target_")
    cls = _class_of(group, config)
    if not issubclass(cls, interface):
        raise ValueError(f"{group}._target_ is {target!r}: it must be a subclass of {interface.__name__}")
    if lacking := ", ".join(sorted(getattr(cls, "__abstractmethods__", ()))):
        raise ValueError(f"{group}._target_ is {target!r}, which does not define {lacking}")
    try:
        signature = inspect.signature(cls, eval_str=True)
    except NameError:  # of an annotation that is there for type checkers alone
        signature = inspect.signature(cls)
    accepted = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if name not in given and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    unknown = sorted(set(keys) - set(accepted))
    if unknown:
        raise ValueError(
            f"{group} has no key {', '.join(unknown)}: {cls.__name__} takes {', '.join(accepted) or 'none'}"
        )
    missing = [n for n, p in accepted.items() if p.default is inspect.Parameter.empty and n not in keys]
    if missing:
        raise ValueError(f"{group} lacks {', '.join(missing)}, which {cls.__name__} needs")
    types = {name: _known(accepted[name].annotation) for name in keys}
    values: Any = typed(make_dataclass(group, types.items()), dict(keys), group)
    return cls(**given, **{name: getattr(values, name) for name in keys})


def _class_of(group: str, config: Mapping[str, Any]) -> type:
    target = config.get("_target_")
    try:
        cls: type = get_class(str(target))
    except Exception as error:
        raise ValueError(
            f"{group}._target_ is {target!r}, which cannot be imported: {_cause(error, str(target))}"
        ) from error
    return cls


def _cause(error: Exception, target: str) -> str:
    """What is wrong, of Hydra's words; where it is the module's own mistake, that and its place."""
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


def refuse_strange_targets(group: str, config: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """`ValueError` where a run's `_target_` is neither heed's nor named by the user's own YAMLs.

    To look at a class is to import its module, which may do anything. What a run from elsewhere names is not looked at
    unless the user has named it too: in the configuration `mine`, in `configs/`, in a `--config-dir` or a
    `hydra.searchpath`, or by a module that is imported already.
    """
    target = str(config.get("_target_"))
    module = target.rpartition(".")[0]
    if module.startswith("heed.") or module in sys.modules or target == mine.get("_target_"):
        return
    groups = [one / group for one in (CONFIGS, *own_directories()) for group in (*COMPONENTS, "experiment")]
    for path in (file for group in groups for file in group.rglob("*.yaml")):
        try:
            named: Any = OmegaConf.to_container(OmegaConf.load(path))
        except Exception as error:
            raise ValueError(f"{path} cannot be read: {error}") from None
        if target in _targets(named):
            return
    raise ValueError(
        f"{group}._target_ is {target!r}, which is neither heed's nor in your configs/: it is not imported. If you "
        "trust it, name it in a YAML there, or give a --config-dir that has one"
    )


def _targets(named: Any) -> Iterator[Any]:
    """Every `_target_` of a configuration, however deep."""
    for key, value in named.items() if isinstance(named, dict) else ():
        if key == "_target_":
            yield value
        yield from _targets(value)


def trust(config: TrainConfig) -> None:
    """Imports the components that the user's own command names: from now on a run may name them too."""
    for group in COMPONENTS:
        _class_of(group, getattr(config, group))


def own_code(config: TrainConfig) -> dict[str, Path]:
    """The source files of `score` and `decoder`, where they are the user's own."""
    parts = {"score": config.score, "decoder": config.decoder}
    own = {group: part for group, part in parts.items() if not str(part.get("_target_")).startswith("heed.")}
    files = {group: inspect.getsourcefile(_class_of(group, part)) for group, part in own.items()}
    return {group: Path(file) for group, file in files.items() if file}


def own_directories() -> list[Path]:
    """Where Hydra finds YAMLs of the user's own: `--config-dir` and `hydra.searchpath`."""
    if not HydraConfig.initialized():
        return []
    directories = []
    for source in HydraConfig.get().runtime.config_sources:
        if source.schema == "file" and source.provider != "main":
            directories.append(Path(source.path))
        elif source.schema == "pkg" and source.provider != "hydra":
            with suppress(ImportError):  # Hydra has warned
                directories.append(Path(str(resources.files(source.path))))
    return directories


def _known(annotation: Any) -> Any:
    """The annotation, if it is one whose values OmegaConf can check; else any value will do."""
    try:
        OmegaConf.structured(make_dataclass("probe", [("key", annotation)]))
        return annotation
    except Exception:
        return Any


def build_corpus(config: Mapping[str, Any]) -> Corpus:
    """The corpus of `configs/data/*.yaml`."""
    return component("data", config, Corpus)  # type: ignore[type-abstract]


def build_tokenizer_settings(config: Mapping[str, Any]) -> TokenizerSettings:
    """The recipe of `configs/tokenizer/*.yaml`."""
    return component("tokenizer", config, TokenizerSettings)  # type: ignore[type-abstract]
