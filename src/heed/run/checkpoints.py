"""Checkpoints: safetensors files with a checksum, written completely or not at all. Nothing is ever unpickled."""

import json
import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from heed.errors import UserError
from heed.files.atomic import write
from heed.files.checksums import FORMAT, PLACEHOLDER, add_checksum, check_format, verify_checksum

STATES = ("fresh", "last", "previous")  # from the newest to the oldest
Tensors = dict[str, Tensor]
log = logging.getLogger(__name__)


def states(directory: Path) -> list[Path]:
    """Return the files of the saved training states, the newest first."""
    return [path for name in STATES if (path := directory / f"{name}.safetensors").exists()]


def save_state(directory: Path, state: dict[str, Any]) -> None:
    """Save a training state as `last`, and keep the one before as `previous`.

    `state` has dictionaries, lists, tensors and JSON's own values.
    """
    tensors: Tensors = {}
    plain = _packed(state, "state", tensors, {})
    write(directory / "fresh.safetensors", partial(_save, tensors, plain))
    finish_renames(directory)


def finish_renames(directory: Path) -> None:
    """Finish the renames of an interrupted save."""
    fresh, last, previous = (directory / f"{name}.safetensors" for name in STATES)
    if fresh.exists():
        if last.exists():
            os.replace(last, previous)
        os.replace(fresh, last)


def newest(directory: Path) -> Path | None:
    """Return the newest intact training state, or None if there is none yet. Warns of damaged ones.

    Raises `UserError` if all states are damaged.
    """
    found = states(directory)
    for path in found:
        try:
            verify_checksum(path)
            return path
        except UserError as error:
            log.warning("%s; an earlier state is used if there is one", error)
    if found:
        raise UserError(
            f"every training state is damaged ({', '.join(map(str, found))}): remove them to train from the start"
        )
    return None


def load_state(directory: Path) -> dict[str, Any] | None:
    """Return the newest intact training state, or None if there is none yet. Raises `UserError` as `newest` does."""
    path = newest(directory)
    return None if path is None else _load(path)[1]


def save_weights(directory: Path, name: str, model: nn.Module, keep: int = 0) -> None:
    """Save a model's weights as `<name>.safetensors`.

    With `keep`, at most so many `step-…` files exist at any time. The oldest ones are removed as soon as the new file
    is on disk under a temporary name.
    """
    path, fresh = directory / f"{name}.safetensors", directory / f"{name}.fresh"
    write(fresh, partial(_save, _tensors(model), None))
    if keep:
        others = sorted(other for other in directory.glob("step-*.safetensors") if other != path)
        for old in others[: max(0, len(others) - keep + 1)]:
            old.unlink()
    os.replace(fresh, path)


def load_weights(model: nn.Module, saved: Tensors, path: Path) -> None:
    """Copy the weights that were saved in the file `path` into the model. Raises `UserError` as `check_shapes` does."""
    check_shapes(model, saved, path)
    with torch.no_grad():
        for name, tensor in _tensors(model).items():
            tensor.copy_(saved[name])


def check_shapes(model: nn.Module, saved: Tensors, path: Path) -> None:
    """Raise `UserError` unless the saved weights have the names and shapes of the model's weights."""
    shapes = [{name: tuple(tensor.shape) for name, tensor in d.items()} for d in (saved, _tensors(model))]
    if shapes[0] != shapes[1]:
        different = sorted(name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name))
        raise UserError(f"{path} is of another model: it differs in {', '.join(different[:9])}")


def weight_files(directory: Path, name: str) -> list[Path]:
    """Return the files that make up the checkpoint of this name: none if there is no state, or none to average."""
    if name == "average":
        return sorted(directory.glob("step-*.safetensors"))
    if name == "last":
        path = newest(directory)
        return [] if path is None else [path]
    return [directory / f"{name}.safetensors"]


def read_weights(directory: Path, name: str) -> tuple[Tensors, Path]:
    """Return the weights of a checkpoint by their names, and the checkpoint's file. Shared weights occur once.

    `name` is `best`, `last`, a kept `step-…`, or `average`. The average is the mean of all kept checkpoints (Vaswani et
    al. 2017, §6.1). Its file is the last of them.

    Raises `UserError` if there is no such checkpoint, listing those that exist, and if it is damaged.
    """
    files = weight_files(directory, name)
    if name == "last":
        if not files:
            raise UserError(f"{directory} holds no checkpoint yet")
        state = _load(files[0])[1]
        averaged = state["average"]  # an AveragedModel's, whose names begin with "module."
        weights = {k[7:]: v for k, v in averaged.items() if k.startswith("module.")} if averaged else state["model"]
        # A shared weight goes by its first name.
        names = {id(tensor): name for name, tensor in reversed(weights.items())}
        return {name: weights[name] for name in reversed(names.values())}, files[0]
    if not files:
        raise UserError(f"{directory} holds no kept checkpoints to average: train with training.keep=10")
    there = sorted(p.stem for p in directory.glob("*.safetensors") if p.stem not in ("fresh", "previous"))
    if files[0].parent != directory or files[0].stem not in there:  # a name, not a path to another directory
        raise UserError(f"{files[0]}: no such checkpoint; there is {', '.join(there) if there else 'none yet'}")
    sums: Tensors = {}
    for path in files:
        try:
            verify_checksum(path)
        except UserError as error:
            raise UserError(f"{error}. Try checkpoint=last, or train again") from None
        weights = _load(path)[0]
        shapes = [{key: tensor.shape for key, tensor in some.items()} for some in (weights, sums or weights)]
        if shapes[0] != shapes[1]:
            raise UserError(f"{path} is of another model than {files[0]}: they have no average")
        sums = {key: sums[key] + tensor for key, tensor in weights.items()} if sums else weights
    return {key: tensor / len(files) for key, tensor in sums.items()} if len(files) > 1 else sums, files[-1]


def _save(tensors: Tensors, state: Any, path: Path) -> None:
    """Write a checksummed file of tensors, and of a state in JSON's terms."""
    # One metadata value holds everything: safetensors writes several in varying order.
    about = json.dumps({"format": FORMAT, "sha256": PLACEHOLDER, "state": state})
    path.touch()
    mode = path.stat().st_mode
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"heed": about})
    path.chmod(mode)  # the mode of any new file: safetensors lets only the owner read
    add_checksum(path)


def _load(path: Path) -> tuple[Tensors, Any]:
    """Return the tensors by name, and the state that refers to them, of a file with a verified checksum."""
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["heed"])
        check_format(path, about["format"])
        tensors = load_file(path)
        return tensors, _unpacked(about["state"], tensors)
    except (SafetensorError, KeyError, TypeError, RecursionError) as error:  # another program's file
        raise UserError(f"{path} is no checkpoint of heed ({error!r})") from None


def _packed(value: Any, name: str, tensors: Tensors, names: dict[tuple[Any, ...], str]) -> Any:
    """Return the value in JSON's terms. Its tensors go into `tensors`, shared ones once."""
    if isinstance(value, Tensor):
        key = (value.data_ptr(), value.shape, value.dtype) if value.numel() else (name,)
        if key not in names:
            names[key] = name
            tensors[name] = value.detach()
        return {"tensor": names[key]}
    if isinstance(value, dict):  # as pairs: keys may be numbers
        return {"items": [[key, _packed(one, f"{name}.{key}", tensors, names)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        return [_packed(one, f"{name}.{place}", tensors, names) for place, one in enumerate(value)]
    return value


def _unpacked(value: Any, tensors: Tensors) -> Any:
    """Return the value that `_packed` was given."""
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _unpacked(one, tensors) for key, one in value["items"]}
    return [_unpacked(one, tensors) for one in value] if isinstance(value, list) else value


def _tensors(model: nn.Module) -> Tensors:
    """Return parameters and saved buffers by name. A shared one occurs once."""
    kept = model.state_dict().keys()
    tensors = (*model.named_parameters(), *model.named_buffers())
    return {name: tensor.detach() for name, tensor in tensors if name in kept}
