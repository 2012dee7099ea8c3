"""Who looks on is told what the histories hold, as it happens, and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from despur.mitigate import METHODS, TrainSettings, find_method, train
from despur.mitigate.callback import replay
from despur.mitigate.study import Study

SETTINGS = TrainSettings(learning_rate=1e-2, epochs=4, batch_size=16)
RECIPE = find_method("clip+lc+vc+vs")


class Notes:
    """A callback that keeps everything; ``stops_in`` an epoch, as a person at the keyboard does."""

    def __init__(self, stops_in: int | None = None) -> None:
        self.settings: Mapping[str, Any] = {}
        self.epochs: list[dict[str, float]] = []
        self.best: list[int | None] = []
        self._stops_in = stops_in

    def start(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        if number == self._stops_in:
            raise KeyboardInterrupt
        self.epochs.append({"epoch": number, **values})

    def finish(self, best_epoch: int | None) -> None:
        self.best.append(best_epoch)


def rows_of(history: pa.Table) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if value is not None} for row in history.to_pylist()]


@pytest.mark.parametrize("name", ["clip+lc+vc+vs", "jtt", "pretrained"])
def test_each_run_of_a_stack_is_told_its_own_history(study: Study, name: str) -> None:
    notes = [Notes(), Notes()]
    runs = train(study, find_method(name), SETTINGS, seeds=[3, 5], callbacks=notes)
    for run, told in zip(runs, notes, strict=True):
        assert told.epochs == rows_of(run.history)
        assert told.best == [run.best_epoch]
        assert told.settings["seed"] == run.seed
        assert TrainSettings.checked(None, **{key: told.settings[key] for key in SETTINGS.model_dump()}) == run.settings
    unseen = train(study, find_method(name), SETTINGS, seeds=[3, 5])
    for run, alike in zip(runs, unseen, strict=True):
        assert all(torch.equal(run.heads[head], alike.heads[head]) for head in run.heads)


def test_a_run_that_diverges_is_told_its_sound_epochs_only(study: Study) -> None:
    wild = SETTINGS.model_copy(update={"learning_rate": 1e80, "weight_decay": 0.1})
    notes = [Notes(), Notes()]
    runs = train(study, RECIPE, [SETTINGS, wild], callbacks=notes)
    assert [told.epochs for told in notes] == [rows_of(run.history) for run in runs]
    assert len(notes[1].epochs) < len(notes[0].epochs) == 5


def test_a_run_that_goes_on_is_told_its_earlier_epochs_again(study: Study, tmp_path: Path) -> None:
    stopped, whole, file = Notes(stops_in=3), Notes(), tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        train(study, RECIPE, SETTINGS, checkpoint=file, checkpoint_seconds=0, callbacks=[stopped])
    assert [row["epoch"] for row in stopped.epochs] == [0, 1, 2]
    assert stopped.best == [None], "it is told that nothing more comes"
    (run,) = train(study, RECIPE, SETTINGS, checkpoint=file, callbacks=[whole])
    assert whole.epochs == rows_of(run.history)


def test_a_finished_run_is_replayed_as_it_would_have_been_told(study: Study) -> None:
    live, later = Notes(), Notes()
    (run,) = train(study, METHODS["group-dro"], SETTINGS, callbacks=[live])
    replay(later, run)
    assert (later.settings, later.epochs, later.best) == (live.settings, live.epochs, live.best)


def test_callbacks_that_are_not_one_a_run_are_refused(study: Study) -> None:
    with pytest.raises(ValueError, match="1 callbacks for 2 runs"):
        train(study, RECIPE, SETTINGS, seeds=[0, 1], callbacks=[Notes()])
