"""Checkpoints: safetensors files with a checksum, written whole or not at all; nothing is ever unpickled."""

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

from heed.files import write
from heed.seals import BLANK, FORMAT, check_format, check_seal, seal

STATES = ("fresh", "last", "previous")  # the newest first
Tensors = dict[str, Tensor]
log = logging.getLogger(__name__)


def states(directory: Path) -> list[Path]:
    """The training states that are there, the newest first."""
    return [path for name in STATES if (path := directory / f"{name}.safetensors").exists()]


def save_state(directory: Path, state: dict[str, Any]) -> None:
    """Saves everything the training loop needs as `last`; the one before stays as `previous`.

    `state`: dictionaries and lists of tensors and of what JSON can say.
    """
    tensors: Tensors = {}
    plain = _packed(state, "state", tensors, {})
    write(directory / "fresh.safetensors", partial(_save, tensors, plain))
    settle(directory)


def settle(directory: Path) -> None:
    """What a process that was killed while it saved left to be renamed."""
    fresh, last, previous = (directory / f"{name}.safetensors" for name in STATES)
    if fresh.exists():
        if last.exists():
            os.replace(last, previous)
        os.replace(fresh, last)


def newest(directory: Path) -> Path | None:
    """The newest whole training state, or None where there is none yet. A damaged one is named and passed over.

    `ValueError` where there are states and none is whole.
    """
    found = states(directory)
    for path in found:
        try:
            check_seal(path)
            return path
        except ValueError as error:
            log.warning("%s; it is passed over", error)
    if found:
        raise ValueError(
            f"none of {', '.join(map(str, found))} can be read: remove them to train from the start"
        )
    return None


def load_state(directory: Path) -> dict[str, Any] | None:
    """What the newest whole training state holds, or None where there is none yet; `ValueError` as in `newest`."""
    path = newest(directory)
    return None if path is None else _load(path)[1]


def save_weights(directory: Path, name: str, model: nn.Module, keep: int = 0) -> None:
    """Saves a model's weights as `<name>.safetensors`.

    With `keep`, removes the oldest `step-…` first, as soon as the new file is on disk under a temporary name, so that
    there are never more than so many.
    """
    path, fresh = directory / f"{name}.safetensors", directory / f"{name}.fresh"
    write(fresh, partial(_save, _tensors(model), None))
    if keep:
        others = sorted(other for other in directory.glob("step-*.safetensors") if other != path)
        for old in others[: max(0, len(others) - keep + 1)]:
            old.unlink()
    os.replace(fresh, path)


def load_weights(model: nn.Module, saved: Tensors, path: Path) -> None:
    """Puts saved weights, those of the file `path`, into the model; `ValueError` where they are of another one."""
    check_shapes(model, saved, path)
    with torch.no_grad():
        for name, tensor in _tensors(model).items():
            tensor.copy_(saved[name])


def check_shapes(model: nn.Module, saved: Tensors, path: Path) -> None:
    """`ValueError` unless the saved weights have the names and sizes of the model's."""
    shapes = [{name: tuple(tensor.shape) for name, tensor in d.items()} for d in (saved, _tensors(model))]
    if shapes[0] != shapes[1]:
        different = sorted(
            name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)
        )
        raise ValueError(f"{path} is of another model: it differs in {', '.join(different[:9])}")


def weight_files(directory: Path, name: str) -> list[Path]:
    """The files that a checkpoint of this name is read from; none where there is no state, or none to average."""
    if name == "average":
        return sorted(directory.glob("step-*.safetensors"))
    if name == "last":
        path = newest(directory)
        return [] if path is None else [path]
    return [directory / f"{name}.safetensors"]


def read_weights(directory: Path, name: str) -> tuple[Tensors, Path]:
    """The weights of `best`, `last` or a kept `step-…` by name, a shared one once, and their file.

    `average` is the mean of all that are kept (Vaswani et al. 2017, §6.1); its file is the last of them. `ValueError`
    where there is no such checkpoint, listing what there is, or where it is damaged.
    """
    files = weight_files(directory, name)
    if name == "last":
        if not files:
            raise ValueError(f"{directory} holds no checkpoint yet")
        state = _load(files[0])[1]
        averaged = state["average"]  # of an AveragedModel, whose names begin with "module."
        weights = (
            {k[7:]: v for k, v in averaged.items() if k.startswith("module.")} if averaged else state["model"]
        )
        names = {id(tensor): name for name, tensor in reversed(weights.items())}  # the first one's, if shared
        return {name: weights[name] for name in reversed(names.values())}, files[0]
    if not files:
        raise ValueError(
            f"{directory} holds no kept checkpoints to average: train with training.keep=10, say"
        )
    there = sorted(p.stem for p in directory.glob("*.safetensors") if p.stem not in ("fresh", "previous"))
    if files[0].parent != directory or files[0].stem not in there:  # a name, no path to elsewhere
        raise ValueError(
            f"{files[0]}: no such checkpoint; there {'is ' + ', '.join(there) if there else 'is none yet'}"
        )
    sums: Tensors = {}
    for path in files:
        try:
            check_seal(path)
        except ValueError as error:
            raise ValueError(f"{error}. Try checkpoint=last, or train again") from None
        weights = _load(path)[0]
        shapes = [{key: tensor.shape for key, tensor in some.items()} for some in (weights, sums or weights)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{path} is of another model than {files[0]}: there is no average of them")
        sums = {key: sums[key] + tensor for key, tensor in weights.items()} if sums else weights
    return {key: tensor / len(files) for key, tensor in sums.items()} if len(files) > 1 else sums, files[-1]


def _save(tensors: Tensors, state: Any, path: Path) -> None:
    # All in one value: the order in which safetensors writes several is not always the same.
    about = json.dumps({"format": FORMAT, "sha256": BLANK, "state": state})
    path.touch()
    mode = path.stat().st_mode
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"heed": about})
    path.chmod(mode)  # as any new file's: safetensors makes it its owner's alone
    seal(path)


def _load(path: Path) -> tuple[Tensors, Any]:
    """The tensors by name, and the state that holds them, of a file whose seal is whole."""
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["heed"])
        check_format(path, about["format"])
        tensors = load_file(path)
        return tensors, _unpacked(about["state"], tensors)
    except (SafetensorError, KeyError, TypeError, RecursionError) as error:  # sealed, but not by heed
        raise ValueError(f"{path} is no checkpoint of heed ({error!r})") from None


def _packed(value: Any, name: str, tensors: Tensors, names: dict[tuple[Any, ...], str]) -> Any:
    """The value as JSON can say it; its tensors go into `tensors`, shared ones once."""
    if isinstance(value, Tensor):
        key = (value.data_ptr(), value.shape, value.dtype) if value.numel() else (name,)
        if key not in names:
            names[key] = name
            tensors[name] = value.detach()
        return {"tensor": names[key]}
    if isinstance(value, dict):  # as pairs, for keys may be numbers
        return {"items": [[key, _packed(one, f"{name}.{key}", tensors, names)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        return [_packed(one, f"{name}.{place}", tensors, names) for place, one in enumerate(value)]
    return value


def _unpacked(value: Any, tensors: Tensors) -> Any:
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _unpacked(one, tensors) for key, one in value["items"]}
    return [_unpacked(one, tensors) for one in value] if isinstance(value, list) else value


def _tensors(model: nn.Module) -> Tensors:
    """Parameters and the buffers that are saved, by name; a shared one once."""
    kept = model.state_dict().keys()
    tensors = (*model.named_parameters(), *model.named_buffers())
    return {name: tensor.detach() for name, tensor in tensors if name in kept}
