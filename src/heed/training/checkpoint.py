"""Checkpoints: written whole or not at all; nothing is ever unpickled."""

import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from heed.files import write

FORMAT = 1
log = logging.getLogger(__name__)


def save_state(directory: Path, state: dict[str, Any]) -> None:
    """Saves everything the training loop needs as `last.pt`; the one before stays as `previous.pt`."""
    directory.mkdir(parents=True, exist_ok=True)
    last, fresh = directory / "last.pt", directory / "fresh.pt"
    write(fresh, lambda path: torch.save({"format": FORMAT, **state}, path))
    if last.exists():
        os.replace(last, directory / "previous.pt")
    os.replace(fresh, last)


def load_state(directory: Path) -> dict[str, Any] | None:
    """The newest whole training state, or None where there is none yet. A damaged one is named and passed over.

    `ValueError` where there are states and none can be read.
    """
    found = [path for name in ("fresh.pt", "last.pt", "previous.pt") if (path := directory / name).exists()]
    for path in found:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a damaged file makes of the reader
            log.warning("%s cannot be read and is passed over: %.200r", path, error)
            continue
        if state["format"] != FORMAT:
            raise ValueError(f"{path} has format {state['format']}; this version of heed reads {FORMAT}")
        return state
    if found:
        raise ValueError(
            f"none of {', '.join(map(str, found))} can be read: remove them to train from the start"
        )
    return None


def save_weights(directory: Path, name: str, model: nn.Module) -> None:
    """Saves a model's weights as `<name>.safetensors`."""
    directory.mkdir(parents=True, exist_ok=True)
    write(directory / f"{name}.safetensors", partial(save_file, _tensors(model)))


def load_weights(model: nn.Module, directory: Path, name: str) -> None:
    """Puts the weights of `best`, `last` or a kept `step-…` into the model.

    `ValueError` where there is no such checkpoint, listing what there is, or where it is damaged or of another model.
    """
    if name == "last":
        state = load_state(directory)
        if state is None:
            raise ValueError(f"{directory} holds no checkpoint yet")
        averaged = state["average"]  # of an AveragedModel, whose names begin with "module."
        weights = (
            {k[7:]: v for k, v in averaged.items() if k.startswith("module.")} if averaged else state["model"]
        )
        model.load_state_dict(weights)
        return
    path = directory / f"{name}.safetensors"
    if not path.exists():
        there = (
            sorted(p.stem for p in directory.glob("*.safetensors"))
            + ["last"] * (directory / "last.pt").exists()
        )
        raise ValueError(
            f"{path}: no such checkpoint; there {'is ' + ', '.join(there) if there else 'is none yet'}"
        )
    try:
        saved = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): try checkpoint=last, or train again") from None
    tensors = _tensors(model)
    shapes = [{name: tuple(tensor.shape) for name, tensor in d.items()} for d in (saved, tensors)]
    if shapes[0] != shapes[1]:
        different = sorted(
            name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)
        )
        raise ValueError(f"{path} is of another model: it differs in {', '.join(different)}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(saved[name])


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; a shared one once."""
    return {name: tensor.detach() for name, tensor in (*model.named_parameters(), *model.named_buffers())}
