"""Histories as each tracker's own reader finds them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from despur.errors import SettingsError
from despur.pipeline import MitigateSettings, mitigate_stage
from despur.pipeline.embedded import Embedded
from despur.pipeline.tracking import FOLDER, TOLD, TRACKERS, Tracking, check_trackers
from despur.pipeline.training import load_runs
from despur.workspace import Workspace

RUN = "erm-seed0"

QUICK = MitigateSettings(methods=("erm", "clip+lc+vc+ls"), seeds=2, train={"epochs": 2, "batch_size": 16})
"""As the finished workspace was trained."""


def tracked(finished: Embedded, root: Path, name: str) -> Path:
    """Where a tracker of a workspace elsewhere has put one of the finished runs."""
    place = Workspace.create(root / "work", dataset="d", model="m")
    Tracking(place, [name]).know({RUN: load_runs(finished.workspace)[RUN]}, watched=False)
    return place.path(FOLDER, name)


def worst_groups(finished: Embedded) -> list[float]:
    return load_runs(finished.workspace)[RUN].history["worst_group"].to_pylist()


def test_tensorboard_reads_every_epoch(finished: Embedded, tmp_path: Path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = tracked(finished, tmp_path, "tensorboard") / RUN
    found = accumulator.EventAccumulator(str(folder))
    found.Reload()
    events = found.Scalars("worst_group")
    assert [event.step for event in events] == [0, 1, 2]
    assert [event.value for event in events] == pytest.approx(worst_groups(finished))
    (folder.parent / TOLD).unlink()
    tracked(finished, tmp_path, "tensorboard")
    assert len(list(folder.iterdir())) == 1, "a run that is tracked again replaces what was there"


def test_mlflow_reads_every_epoch_and_the_settings(finished: Embedded, tmp_path: Path):
    tracking = pytest.importorskip("mlflow.tracking")
    folder = tracked(finished, tmp_path, "mlflow")
    client = tracking.MlflowClient(tracking_uri=folder.resolve().as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("despur").experiment_id])
    assert run.info.run_name == RUN
    assert run.info.status == "FINISHED"
    assert run.data.params["method"] == "erm"
    assert run.data.params["best_epoch"] == str(load_runs(finished.workspace)[RUN].best_epoch)
    history = client.get_metric_history(run.info.run_id, "worst_group")
    assert [entry.value for entry in history] == pytest.approx(worst_groups(finished))


class Witness:
    """Notes what a tracker is told, and can fail as one whose disk is full."""

    def __init__(self, log: list[tuple[str, object]], run: str, fails_in: int | None) -> None:
        self.log, self.run, self.fails_in = log, run, fails_in

    def start(self, settings: Mapping[str, Any]) -> None:
        self.log.append((self.run, dict(settings)["seed"]))

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        if number == self.fails_in:
            raise OSError(28, "No space left on device")
        self.log.append((self.run, number))

    def finish(self, best_epoch: int | None) -> None:
        self.log.append((self.run, None if best_epoch is None else "best"))


def test_seeds_that_are_trained_side_by_side_are_told_epoch_by_epoch(
    own_work: Path, finished: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[tuple[str, object]] = []
    fails_in: list[int | None] = [1]
    trackers = {"tensorboard": lambda folder, run: Witness(log, run, fails_in[0])}
    monkeypatch.setattr("despur.pipeline.tracking.TRACKERS", trackers)
    embedded = Embedded(Workspace.open(own_work), finished.device, finished.backbone)
    settings = QUICK.model_copy(
        update={"track": ("tensorboard",), "methods": ("erm",), "by_method": {"erm": {"epochs": 3}}}
    )
    with pytest.raises(OSError, match="No space"):
        mitigate_stage(embedded, settings)
    first, second = "erm-seed0", "erm-seed1"
    # The pre-trained model was not trained again; it was not known yet.
    assert log[:3] == [("pretrained", 0), ("pretrained", 0), ("pretrained", "best")]
    assert log[3:] == [(first, 0), (second, 1), (first, 0), (second, 0), (first, None), (second, None)]

    log.clear()
    fails_in[0] = None
    mitigate_stage(embedded, settings)
    both = [(run, number) for number in range(4) for run in (first, second)]
    assert log == [(first, 0), (second, 1), *both, (first, "best"), (second, "best")]

    log.clear()
    mitigate_stage(embedded, settings)
    assert log == [], "what is known is not told again"
    settings = settings.model_copy(update={"track": ()})
    mitigate_stage(embedded, settings.model_copy(update={"by_method": {"erm": {"epochs": 2}}}))
    assert log == [], "nobody is told where no tracker is asked for"
    settings = settings.model_copy(update={"track": ("tensorboard",), "by_method": {"erm": {"epochs": 2}}})
    mitigate_stage(embedded, settings)
    assert {run for run, _ in log} == {first, second}, "what was trained unwatched is told afterwards"


@pytest.mark.slow
def test_wandb_writes_an_offline_run(finished: Embedded, tmp_path: Path):
    pytest.importorskip("wandb")
    folder = tracked(finished, tmp_path, "wandb")
    assert list(folder.glob("wandb/offline-run-*/run-*.wandb"))


@pytest.mark.slow
def test_wandb_keeps_seeds_that_are_trained_side_by_side_apart(tmp_path: Path):
    pytest.importorskip("wandb")
    runs = [TRACKERS["wandb"](tmp_path, name) for name in ("erm-seed0", "erm-seed1")]
    for run in runs:
        run.start({"method": "erm"})
    for run in runs:
        run.epoch(0, {"loss": 1.0})
    for run in runs:
        run.finish(0)
    assert len(list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))) == 2


def test_a_study_hands_on_its_histories_once(own_work: Path, finished: Embedded) -> None:
    """``track: tensorboard`` in a study file: told all runs the first time, and nothing where nothing was trained."""
    embedded = Embedded(Workspace.open(own_work), finished.device, finished.backbone)
    settings = QUICK.model_copy(update={"track": ("tensorboard",)})
    names = mitigate_stage(embedded, settings)
    folder = embedded.workspace.path(FOLDER, "tensorboard")
    assert {file.parent.name for file in folder.rglob("events.*")} == set(names)
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("events.*")}
    mitigate_stage(embedded, settings)
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("events.*")} == before
    mitigate_stage(embedded, settings.model_copy(update={"by_method": {"erm": {"epochs": 1}}}))
    after = {file: file.stat().st_mtime_ns for file in folder.rglob("events.*")}
    assert {file.parent.name for file in after if after[file] != before.get(file)} == {"erm-seed0", "erm-seed1"}


def test_an_unknown_tracker_is_told_with_the_nearest():
    with pytest.raises(SettingsError, match=r"tensorbord.*tensorboard"):
        check_trackers(["tensorbord"])


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SettingsError, match=r"wandb is not installed.*despur\[track\]"):
        check_trackers(["wandb"])
