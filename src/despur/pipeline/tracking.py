"""Training watched where people already compare runs: TensorBoard, MLflow and Weights & Biases.

Each epoch is handed on as it ends. Tracking changes neither a result nor a fingerprint.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from despur.errors import SettingsError, nearest
from despur.mitigate.callback import Callback, replay
from despur.mitigate.runs import Run
from despur.workspace import Workspace, fingerprint, read_json, write_json

FOLDER = "tracking"
"""In the workspace; each tracker has a folder of its own inside."""

TOLD = "told.json"
"""In a tracker's folder: of each run that it was told whole, a fingerprint of what it was told."""

EXPERIMENT = "despur"


class TensorBoard:
    """Event files, one folder a run: ``tensorboard --logdir WORK/tracking/tensorboard``."""

    FLUSH_SECONDS = 5
    """A page that is open shows an epoch at most so much later."""

    def __init__(self, folder: Path, run: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._make, self._folder = SummaryWriter, folder / run
        self._writer: Any = None

    def start(self, settings: Mapping[str, Any]) -> None:
        """A folder for the run; what an earlier run of the name left in it is removed."""
        for stale in self._folder.glob("events.*"):
            stale.unlink()
        self._writer = self._make(str(self._folder), flush_secs=self.FLUSH_SECONDS)
        self._writer.add_text("settings", "\n".join(f"    {key}: {value}" for key, value in settings.items()))

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """One epoch's numbers."""
        for key, value in values.items():
            self._writer.add_scalar(key, value, number)

    def finish(self, best_epoch: int | None) -> None:
        """Close the run."""
        if best_epoch is not None:
            self._writer.add_text("best_epoch", str(best_epoch))
        self._writer.close()


class MLflow:
    """A local store of files: ``mlflow ui --backend-store-uri WORK/tracking/mlflow``."""

    def __init__(self, folder: Path, run: str) -> None:
        # MLflow asks for a database first; files are what travels with a workspace.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

        self._client: Any = MlflowClient(tracking_uri=folder.resolve().as_uri())
        self._name, self._run = run, ""

    def start(self, settings: Mapping[str, Any]) -> None:
        """A new run of the experiment, with its settings as parameters."""
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = self._client.create_experiment(EXPERIMENT) if found is None else found.experiment_id
        self._run = self._client.create_run(experiment, run_name=self._name).info.run_id
        for key, value in settings.items():
            self._client.log_param(self._run, key, value)

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """One epoch's numbers."""
        for key, value in values.items():
            # A slash becomes a folder there, and "loss" is a file already.
            self._client.log_metric(self._run, key.replace("/", "."), value, step=number)

    def finish(self, best_epoch: int | None) -> None:
        """Close the run; one that was stopped is marked as killed."""
        if best_epoch is not None:
            self._client.log_param(self._run, "best_epoch", best_epoch)
        self._client.set_terminated(self._run, "KILLED" if best_epoch is None else "FINISHED")


class WeightsAndBiases:
    """Offline runs, nothing is sent: ``wandb sync WORK/tracking/wandb/wandb/offline-run-*`` does, when you ask."""

    def __init__(self, folder: Path, run: str) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self._wandb: Any = wandb
        self._folder, self._name = folder, run
        self._run: Any = None

    def start(self, settings: Mapping[str, Any]) -> None:
        """A new offline run, with its settings, beside those of the other seeds."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = self._wandb.init(
            project=EXPERIMENT,
            name=self._name,
            config=dict(settings),
            mode="offline",
            dir=str(self._folder),
            reinit="create_new",
        )

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """One epoch's numbers."""
        self._run.log(dict(values), step=number)

    def finish(self, best_epoch: int | None) -> None:
        """Close the run."""
        if best_epoch is not None:
            self._run.summary["best_epoch"] = best_epoch
        self._run.finish(exit_code=int(best_epoch is None))


TRACKERS: Mapping[str, Callable[[Path, str], Callback]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WeightsAndBiases,
}
"""By the name that ``--track`` takes: from the tracker's folder and a run's name, who is told of that run."""


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


class Tracking:
    """The trackers that a command names, and which runs each of them knows.

    Args:
        names: of trackers.

    Raises:
        SettingsError: as :func:`check_trackers`.
    """

    def __init__(self, workspace: Workspace, names: Iterable[str]) -> None:
        self._folders = {name: workspace.path(FOLDER, name) for name in dict.fromkeys(names)}
        check_trackers(self._folders)

    def callbacks(self, runs: Iterable[str]) -> list[Callback]:
        """Who is told of each run while it is trained, one callback a run; none where no tracker is named."""
        if not self._folders:
            return []
        return [_Together([TRACKERS[name](folder, run) for name, folder in self._folders.items()]) for run in runs]

    def know(self, runs: Mapping[str, Run], *, watched: bool) -> None:
        """Note that trained runs are known to every tracker.

        Args:
            runs: by name.
            watched: they were told while they were trained; otherwise the trackers are told now what they do not know.
        """
        if not self._folders:
            return
        states = {name: fingerprint(run.settings.model_dump(), run.history.to_pylist()) for name, run in runs.items()}
        for tracker, folder in self._folders.items():
            file = folder / TOLD
            told = _read_told(file)
            for name, run in runs.items():
                if not watched and told.get(name) != states[name]:
                    replay(TRACKERS[tracker](folder, name), run)
            folder.mkdir(parents=True, exist_ok=True)
            write_json(file, {**told, **states})


def _read_told(file: Path) -> dict[str, Any]:
    found = read_json(file) if file.exists() else None
    return found if isinstance(found, dict) else {}


class _Together:
    """Several callbacks as one."""

    def __init__(self, callbacks: list[Callback]) -> None:
        self._callbacks = callbacks

    def start(self, settings: Mapping[str, Any]) -> None:
        for callback in self._callbacks:
            callback.start(settings)

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        for callback in self._callbacks:
            callback.epoch(number, values)

    def finish(self, best_epoch: int | None) -> None:
        for callback in self._callbacks:
            callback.finish(best_epoch)
