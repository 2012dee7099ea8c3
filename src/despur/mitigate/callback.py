"""Who looks on while runs are trained. A callback is told what is measured anyway; it can change no result."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Protocol

import pyarrow as pa

from despur.mitigate.runs import Run
from despur.mitigate.settings import TrainSettings


class Callback(Protocol):
    """What is told of one run, epoch by epoch."""

    def start(self, settings: Mapping[str, Any]) -> None:
        """The run begins, or goes on where it was stopped; ``settings`` are plain values, see :func:`described`."""
        ...

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """What was measured in an epoch, by column of the run's history; 0 is before training.

        A run that goes on is told its earlier epochs again first. A diverged run is told no more.
        """
        ...

    def finish(self, best_epoch: int | None) -> None:
        """Nothing more comes; ``best_epoch`` is the kept one, None where training was stopped."""
        ...


def described(method: str, attribute: str, seed: int, settings: TrainSettings) -> dict[str, Any]:
    """What a callback is told when a run begins: ``method``, ``attribute``, ``seed`` and each training setting."""
    return {"method": method, "attribute": attribute, "seed": seed, **settings.model_dump(mode="json")}


def tell(callback: Callback, history: pa.Table) -> None:
    """Tell some epochs of a run's history, without what is null or not finite."""
    for row in history.to_pylist():
        number = row.pop("epoch")
        callback.epoch(number, {name: value for name, value in row.items() if value is not None and isfinite(value)})


def replay(callback: Callback, run: Run) -> None:
    """Tell everything of a run that is trained already."""
    callback.start(described(run.method, run.attribute, run.seed, run.settings))
    try:
        tell(callback, run.history)
    finally:
        callback.finish(run.best_epoch)
