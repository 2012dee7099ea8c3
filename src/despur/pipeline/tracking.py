"""Training histories in the places where people already compare runs: TensorBoard, MLflow and Weights & Biases.

A history is handed on once its run is trained, so that tracking can change neither a result nor a fingerprint.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

from despur.errors import SettingsError, nearest
from despur.mitigate.runs import Run
from despur.workspace import Workspace

FOLDER = "tracking"
"""In the workspace; each tracker has a folder of its own inside."""

EXPERIMENT = "despur"


class Tracker(Protocol):
    """What is told of one run."""

    def start(self, name: str, settings: Mapping[str, Any]) -> None:
        """A run begins; ``settings`` are plain values."""
        ...

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """What was measured in an epoch; 0 is before training."""
        ...

    def finish(self) -> None:
        """The run is over; what is still in memory is written."""
        ...


class TensorBoard:
    """Event files, one folder a run: ``tensorboard --logdir WORK/tracking/tensorboard``."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._make, self._folder = SummaryWriter, folder
        self._writer: Any = None

    def start(self, name: str, settings: Mapping[str, Any]) -> None:
        """A folder for the run; what an earlier run of the name left in it is removed."""
        own = self._folder / name
        for stale in own.glob("events.*"):
            stale.unlink()
        self._writer = self._make(str(own))
        self._writer.add_text("settings", "\n".join(f"    {key}: {value}" for key, value in settings.items()))

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """One epoch's numbers."""
        for key, value in values.items():
            self._writer.add_scalar(key, value, number)

    def finish(self) -> None:
        """Close the run."""
        self._writer.close()


class MLflow:
    """A local store of files: ``mlflow ui --backend-store-uri WORK/tracking/mlflow``."""

    def __init__(self, folder: Path) -> None:
        # MLflow asks for a database first; files are what travels with a workspace.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

        self._client: Any = MlflowClient(tracking_uri=folder.resolve().as_uri())
        self._run = ""

    def start(self, name: str, settings: Mapping[str, Any]) -> None:
        """A new run of the experiment, with its settings as parameters."""
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = self._client.create_experiment(EXPERIMENT) if found is None else found.experiment_id
        self._run = self._client.create_run(experiment, run_name=name).info.run_id
        for key, value in settings.items():
            self._client.log_param(self._run, key, value)

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """One epoch's numbers."""
        for key, value in values.items():
            # A slash becomes a folder there, and "loss" is a file already.
            self._client.log_metric(self._run, key.replace("/", "."), value, step=number)

    def finish(self) -> None:
        """Close the run."""
        self._client.set_terminated(self._run)


class WeightsAndBiases:
    """Offline runs, nothing is sent: ``wandb sync WORK/tracking/wandb/wandb/offline-run-*`` does, when you ask."""

    def __init__(self, folder: Path) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self._wandb: Any = wandb
        self._folder = folder
        self._run: Any = None

    def start(self, name: str, settings: Mapping[str, Any]) -> None:
        """A new offline run, with its settings."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = self._wandb.init(
            project=EXPERIMENT, name=name, config=dict(settings), mode="offline", dir=str(self._folder)
        )

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """One epoch's numbers."""
        self._run.log(dict(values), step=number)

    def finish(self) -> None:
        """Close the run."""
        self._run.finish()


TRACKERS: Mapping[str, Callable[[Path], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WeightsAndBiases,
}
"""By the name that ``--track`` takes."""


def check_trackers(names: Iterable[str]) -> None:
    """Miss a tracker before the long work whose histories it would be told.

    Raises:
        SettingsError: there is no such tracker, or its package is missing.
    """
    for name in names:
        if name not in TRACKERS:
            raise SettingsError(f"there is no tracker {name!r}", where="--track", now=nearest(name, list(TRACKERS)))
        if find_spec(name) is None:  # each is called as its package is
            raise SettingsError(f"{name} is not installed", where="--track", now="run: pip install 'despur[track]'")


def track_runs(workspace: Workspace, names: Iterable[str], runs: Mapping[str, Run], trained: Collection[str]) -> None:
    """Tell the trackers of a workspace what they do not know yet.

    Args:
        names: of trackers.
        runs: all runs of the command, by name.
        trained: those that were trained now. A tracker that was told nothing before is told all.

    Raises:
        SettingsError: as :func:`check_trackers`.
    """
    check_trackers(names)
    for name in dict.fromkeys(names):
        folder = workspace.path(FOLDER, name)
        told = runs if not folder.exists() else {run: runs[run] for run in runs if run in trained}
        if told:
            track(TRACKERS[name](folder), told)


def track(tracker: Tracker, runs: Mapping[str, Run]) -> None:
    """Tell a tracker each run's settings and its history, epoch by epoch, without what is not finite."""
    for name, run in runs.items():
        settings = {"method": run.method, "attribute": run.attribute, "seed": run.seed}
        tracker.start(name, {**settings, **run.settings.model_dump(mode="json"), "best_epoch": run.best_epoch})
        try:
            for row in run.history.to_pylist():
                epoch = row.pop("epoch")
                tracker.epoch(epoch, {key: value for key, value in row.items() if _is_finite(value)})
        finally:
            tracker.finish()


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and isfinite(value)
