"""Training that goes on where it was stopped: the whole state of a stack, at the end of an epoch, in one file."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from despur.mitigate.history import History
from despur.workspace import write_whole


@dataclass
class TrainingState:
    """Everything that changes while a stack of runs is trained.

    Attributes:
        heads: what is trained, [runs, ...], on the device.
        momenta: of SGD, of the same names and shapes.
        kept: what the method keeps beside the heads, [runs, ...].
        best: the trained heads of each run's best epoch so far.
        best_epoch: that epoch; 0 before any.
        best_score: its validation accuracy, the one selected by; -inf before any.
        diverged_step: first step that was not finite, counted from 1; 0 for a sound run.
        sound_epochs: epochs that a run went through soundly.
        generators: one a run.
        epoch: the last epoch that is complete.
        seconds: time spent in training, over all sessions.
    """

    heads: dict[str, Tensor]
    momenta: dict[str, Tensor]
    kept: dict[str, Tensor]
    best: dict[str, Tensor]
    best_epoch: Int[Tensor, "runs"]
    best_score: Float[Tensor, "runs"]
    diverged_step: Int[Tensor, "runs"]
    sound_epochs: Int[Tensor, "runs"]
    generators: Sequence[torch.Generator]
    history: History = field(default_factory=History)
    epoch: int = 0
    seconds: float = 0.0

    @property
    def sound(self) -> Bool[Tensor, "runs"]:
        """Which runs have met finite numbers only."""
        return self.diverged_step == 0


_TENSORS = ("best_epoch", "best_score", "diverged_step", "sound_epochs")
_TENSOR_MAPS = ("heads", "momenta", "kept", "best")
_LISTS = ("losses", "rates", "averages")


@dataclass
class Checkpoint:
    """A file that a state is written to every few seconds, and read back from by the same training.

    Attributes:
        file: where; None: nothing is written.
        key: digest of study, method, settings and seeds; a file with another key is another training's and is ignored.
        seconds_between: the least time between two writes.
    """

    file: Path | None
    key: str
    seconds_between: float
    _written: float = field(default_factory=time.monotonic)

    def save(self, state: TrainingState, *, last: bool = False) -> None:
        """Write the state if the last write is long ago, or if it is the last."""
        if self.file is None or not (last or time.monotonic() - self._written >= self.seconds_between):
            return
        content: dict[str, Any] = {name: getattr(state, name) for name in (*_TENSORS, "epoch", "seconds")}
        content |= {name: {key: value.detach() for key, value in getattr(state, name).items()} for name in _TENSOR_MAPS}
        content |= {name: getattr(state.history, name) for name in _LISTS}
        content["generators"] = [generator.get_state() for generator in state.generators]
        with write_whole(self.file) as temporary:
            torch.save({"key": self.key, "state": content}, temporary)
        self._written = time.monotonic()

    def restore(self, state: TrainingState) -> None:
        """Bring a fresh state to where the file's training stood. A file that cannot be read is no file."""
        if self.file is None or not self.file.exists():
            return
        try:
            held = torch.load(self.file, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
            return
        if not isinstance(held, dict) or held.get("key") != self.key:
            return
        content = held["state"]
        if any(getattr(state, name).keys() != content[name].keys() for name in _TENSOR_MAPS):
            return  # Written by a version that trained other tensors.
        with torch.no_grad():
            for name in _TENSORS:
                getattr(state, name).copy_(content[name])
            for name in _TENSOR_MAPS:
                for key, value in getattr(state, name).items():
                    value.copy_(content[name][key])
        for name in _LISTS:
            setattr(state.history, name, content[name])
        for generator, saved in zip(state.generators, content["generators"], strict=True):
            generator.set_state(saved)
        state.epoch, state.seconds = content["epoch"], content["seconds"]
