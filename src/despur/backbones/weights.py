"""Reading a checkpoint without running anything in it, and putting it into a model that it must fit."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from open_clip.convert import convert_state_dict
from open_clip.model import CustomTextCLIP, convert_to_custom_text_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from despur.backbones.torchscript import DAMAGE, is_torchscript, read_torchscript
from despur.errors import ModelError

OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's own archives carry beside the weights; nothing else does."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The named tensors of a checkpoint: safetensors, a PyTorch file of plain tensors, or an OpenAI archive.

    A training checkpoint (open_clip's ``{"state_dict", "optimizer", ...}``, with or without ``module.`` in front of
    every name) gives its model's weights.

    Raises:
        ModelError: the file is missing, damaged, holds no tensors, or is a pickle that wants to run code.
    """
    if not path.is_file():
        raise ModelError("there is no such weights file", where=path, now="check the path behind the architecture")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"it is damaged or not a safetensors file ({error})", where=path, now="fetch it again"
            ) from error
    content = read_torchscript(path) if is_torchscript(path) else _read_pickle(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise ModelError("it holds no named weights", where=path, now="give a state dict saved by torch or safetensors")
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def _read_pickle(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch tells bytes that are no pickle at all and a pickle of a newer kind than its own in the same words.
        if "unsupported operand" in str(error).lower() and not _starts_as_pickle(path):
            raise ModelError("it is damaged or not a weights file", where=path, now="fetch it again") from error
        raise ModelError(
            "it holds more than weights: reading it could run code that hides in it",
            where=path,
            now="convert it to safetensors where you trust it",
        ) from error
    except DAMAGE as error:
        raise ModelError("it is damaged or not a weights file", where=path, now="fetch it again") from error


def _starts_as_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(2)
    return len(start) == 2 and start[0] == pickle.PROTO[0] and start[1] <= pickle.HIGHEST_PROTOCOL


def from_openai(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict comes from one of OpenAI's own archives (whose models use QuickGELU)."""
    return all(name in state for name in OPENAI_EXTRAS)


def load_weights(model: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> None:
    """Put a checkpoint's tensors into an open_clip model, none missing, none left over, every shape as it is.

    Raises:
        ModelError: the checkpoint belongs to another architecture; the message names the first tensor that tells.
    """
    state = {name: value for name, value in state.items() if name not in OPENAI_EXTRAS}
    # Apple's MobileCLIP and Meta's CLIP call their tensors otherwise.
    state = dict(convert_state_dict(model, state))  # pyright: ignore[reportArgumentType]
    if isinstance(model, CustomTextCLIP):
        state = convert_to_custom_text_state_dict(state)
    wanted = model.state_dict()
    for name in ("logit_scale", "logit_bias"):
        # Old and new checkpoints differ in whether the temperature is a number or a list of one.
        if name in state and name in wanted and state[name].numel() == 1:
            state[name] = state[name].reshape(wanted[name].shape)
    now = "name the architecture that the weights were trained with"
    missing = [name for name in wanted if name not in state]
    if missing:
        raise ModelError(
            f"it does not fit: {len(missing)} of {len(wanted)} tensors are missing, the first is {missing[0]}",
            where=where,
            now=now,
        )
    left_over = [name for name in state if name not in wanted]
    if left_over:
        raise ModelError(
            f"it does not fit: the model has no place for {len(left_over)} tensors, the first is {left_over[0]}",
            where=where,
            now=now,
        )
    for name, value in state.items():
        if value.shape != wanted[name].shape:
            raise ModelError(
                f"it does not fit: {name} has shape {list(value.shape)}, the model needs {list(wanted[name].shape)}",
                where=where,
                now=now,
            )
    model.load_state_dict(state)
