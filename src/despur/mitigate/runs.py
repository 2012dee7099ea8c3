"""A trained run, and its folder: ``config.json``, ``heads.safetensors``, ``history.parquet``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from despur.errors import WorkspaceError
from despur.mitigate.settings import TrainSettings
from despur.workspace import read_json, read_parquet, write_json, write_parquet, write_whole

MATRICES = ("image.weight", "pool.c.weight", "text.weight", "probe.weight", "context.weight")
"""Heads of two dimensions, whatever the model."""


@dataclass(frozen=True)
class Run:
    """One method, trained once.

    Attributes:
        method: its name.
        attribute: the attribute whose groups it was selected by.
        seed: of the order of its images.
        settings: what it was trained with.
        heads: those of the best epoch, on the CPU.
        best_epoch: counted from 1; 0: the heads are as they were before training.
        history: one row an epoch, see :class:`~despur.mitigate.history.History`.
        diverged_step: the first step, counted from 1, whose loss or heads were not finite; None for a sound run. The
            heads and the history of a diverged run are those of its sound epochs.
        seconds: its share of the time that its stack took.
    """

    method: str
    attribute: str
    seed: int
    settings: TrainSettings
    heads: dict[str, Tensor]
    best_epoch: int
    history: pa.Table
    diverged_step: int | None
    seconds: float


def save_run(folder: Path, run: Run, config: Mapping[str, Any] | None = None) -> None:
    """Write a run to its folder, every file whole or not at all, ``config.json`` last: with it the run is complete.

    Args:
        config: more for ``config.json``, as plain values; must not name what the run itself says.
    """
    with write_whole(folder / "heads.safetensors") as temporary:
        save_file({name: head.contiguous() for name, head in run.heads.items()}, temporary)
    write_parquet(folder / "history.parquet", run.history)
    own = {
        "method": run.method,
        "attribute": run.attribute,
        "seed": run.seed,
        "settings": run.settings.model_dump(mode="json"),
        "best_epoch": run.best_epoch,
        "diverged_step": run.diverged_step,
        "seconds": run.seconds,
    }
    write_json(folder / "config.json", {**(config or {}), **own})


def load_run(folder: Path) -> Run:
    """Read what :func:`save_run` wrote.

    Raises:
        WorkspaceError: a file is missing or damaged.
    """
    file = folder / "config.json"
    config = read_json(file)
    try:
        settings = TrainSettings.model_validate(config["settings"])
        history = read_parquet(folder / "history.parquet")
        # Its kept epoch is what runs are chosen by; without it, no run can be.
        history["worst_group"][int(config["best_epoch"])]
        return Run(
            method=str(config["method"]),
            attribute=str(config["attribute"]),
            seed=int(config["seed"]),
            settings=settings,
            heads=load_heads(folder / "heads.safetensors"),
            best_epoch=int(config["best_epoch"]),
            history=history,
            diverged_step=config["diverged_step"],
            seconds=float(config["seconds"]),
        )
    except (KeyError, IndexError, TypeError, ValueError, ValidationError) as error:
        raise WorkspaceError(
            "it does not describe a run", where=folder, now="delete the run and train again"
        ) from error


def load_heads(file: Path, *, now: str = "delete the run and train again") -> dict[str, Tensor]:
    """Heads from a safetensors file, on the CPU.

    Args:
        now: what the user is to do where they cannot be read.

    Raises:
        WorkspaceError: the file is missing or damaged, or holds other tensors than heads.
    """
    try:
        heads = load_file(file)
    except (SafetensorError, OSError) as error:
        raise WorkspaceError("the heads cannot be read", where=file, now=now) from error
    if not _classifies(heads):
        raise WorkspaceError("it holds no heads that can classify", where=file, now=now)
    return heads


def _classifies(heads: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are a probe, or an image side and a text side with a temperature; all of them numbers."""
    probe = "probe.weight" in heads and "probe.bias" in heads
    images = "image.weight" in heads or "pool.c.weight" in heads
    texts = "text.weight" in heads or "context.weight" in heads
    sound = all(head.dim() == 2 for name, head in heads.items() if name in MATRICES)
    return sound and (probe or (images and texts and "logit_scale" in heads))
