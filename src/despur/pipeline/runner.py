"""Runs one stage over a workspace, or skips it where what it would read has not changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from despur.pipeline.machine import machine_of
from despur.workspace import StageRecord, Workspace, fingerprint, fingerprint_file, versions


def run_stage(
    workspace: Workspace,
    stage: str,
    *,
    settings: dict[str, Any],
    inputs: str,
    outputs: Sequence[Path] | Callable[[], Sequence[Path]],
    work: Callable[[], None],
    seed: int | None = None,
    device: torch.device | None = None,
    weights: str = "",
    effort: Callable[[], dict[str, Any]] = dict,
) -> bool:
    """Do the work unless the workspace already holds its outcome.

    Args:
        stage: its name in ``workspace.json``; a stage that is run once a method has a
            name for each ("mitigate/clip").
        settings: what the user chose, as plain values.
        inputs: fingerprint of everything the stage reads.
        outputs: files that must be there, with the bytes that were written, for the stage to count as done; a function
            where which they are is known only from what was written.
        work: writes the outputs, each as a whole file.
        seed: what the stage drew from, for the record; None: it draws nothing.
        device: where it computes, for the record; None: on the processor.
        weights: fingerprint of the model that it runs, for the record.
        effort: tells, once the work is done, what may have moved a last bit, for the record.

    Returns:
        Whether the work was done now.
    """
    listed = outputs if callable(outputs) else lambda: outputs
    state = fingerprint(settings, inputs)
    if is_current(workspace, stage, settings, inputs, listed()):
        return False
    # Stopped halfway, the stage's files are neither the old outcome nor the new one.
    workspace.forget(stage)
    started = time.perf_counter()
    work()
    workspace.save_record(
        stage,
        StageRecord(
            settings=settings,
            inputs=state,
            versions=versions(),
            machine=machine_of(device),
            seed=seed,
            seconds=time.perf_counter() - started,
            weights=weights,
            effort=effort(),
            outputs={_place(workspace, path): fingerprint_file(path) for path in listed()},
        ),
    )
    return True


def is_current(
    workspace: Workspace, stage: str, settings: dict[str, Any], inputs: str, outputs: Sequence[Path]
) -> bool:
    """Whether a workspace holds the outcome of a stage with these settings and inputs, whole."""
    record = workspace.record(stage)
    if record is None or record.inputs != fingerprint(settings, inputs):
        return False
    return not damaged_outputs(workspace, record, outputs)


def damaged_outputs(workspace: Workspace, record: StageRecord, outputs: Iterable[Path]) -> list[Path]:
    """Those of a stage's files that are gone, or hold other bytes than were written."""
    return [path for path in outputs if not _is_whole(path, record.outputs.get(_place(workspace, path)))]


def _is_whole(path: Path, checksum: str | None) -> bool:
    try:
        return path.exists() if checksum is None else fingerprint_file(path) == checksum
    except OSError:
        return False


def _place(workspace: Workspace, path: Path) -> str:
    return path.relative_to(workspace.root).as_posix()


def stage_state(workspace: Workspace, stage: str) -> str:
    """Fingerprint of a finished stage, for the stages that read its outcome; empty where it has not run."""
    record = workspace.record(stage)
    return "" if record is None else record.inputs
