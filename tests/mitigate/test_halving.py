"""Successive halving: what it costs, whom it keeps, and how it goes on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from despur.mitigate import METHODS, TrainSettings
from despur.mitigate.halving import Rung, Trial, rungs, runs_at_once, search
from despur.mitigate.study import Study
from despur.mitigate.tuning import draw_settings

BASE = TrainSettings(epochs=16, batch_size=32)


def test_64_settings_cost_12_full_runs() -> None:
    plan = rungs(64, 80)
    assert plan == [Rung(64, 5), Rung(16, 20), Rung(4, 80)]
    assert sum(rung.settings * rung.epochs for rung in plan) / 80 == 12


@given(st.integers(1, 300), st.integers(1, 400))
def test_the_last_rung_has_all_epochs_and_no_rung_more_settings_than_the_one_before(count: int, epochs: int) -> None:
    plan = rungs(count, epochs)
    assert plan[-1].epochs == epochs
    assert plan[0].settings == count
    assert all(1 <= later.settings <= earlier.settings for earlier, later in itertools.pairwise(plan))


def test_no_rung_repeats_the_epochs_of_the_one_before() -> None:
    assert rungs(64, 5) == [Rung(64, 1), Rung(4, 5)]
    assert rungs(64, 1) == [Rung(64, 1)]


@given(st.integers(16, 400))
def test_64_settings_cost_at_most_16_full_runs_from_16_epochs_on(epochs: int) -> None:
    assert sum(rung.settings * rung.epochs for rung in rungs(64, epochs)) <= 16 * epochs


def test_the_best_of_the_last_rung_is_chosen_and_all_trials_are_told(study: Study) -> None:
    drawn = draw_settings(METHODS["erm"], BASE, 16)
    found = search(study, METHODS["erm"], drawn, seed=0)
    assert [trial.settings.epochs for trial in found.trials] == [4] * 16 + [16] * 4
    last = found.trials[16:]
    assert found.best.worst_group == max(trial.worst_group for trial in last)
    assert found.full_runs == 8
    first = sorted(found.trials[:16], key=lambda trial: trial.rank, reverse=True)
    assert [trial.settings.learning_rate for trial in last] == [trial.settings.learning_rate for trial in first[:4]]


class Stopped(Exception):
    pass


def stop_at(call: int) -> Any:
    """A progress that breaks off in the middle of that stack."""
    calls = 0

    def progress(steps: Iterable[int], *, total: int, label: str, unit: str = "", each: int = 1) -> Iterator[int]:
        nonlocal calls
        calls += 1
        for number, step in enumerate(steps):
            if calls == call and number == 1:
                raise Stopped
            yield step

    return progress


@pytest.mark.parametrize("call", [1, 2])
def test_a_search_that_was_stopped_ends_with_the_same_trials(study: Study, tmp_path: Path, call: int) -> None:
    drawn, ledger = draw_settings(METHODS["jtt"], BASE, 4 * 4), tmp_path / "ledger.json"
    whole = search(study, METHODS["jtt"], drawn, seed=0)
    with pytest.raises(Stopped):
        search(study, METHODS["jtt"], drawn, seed=0, ledger=ledger, progress=stop_at(call))
    assert search(study, METHODS["jtt"], drawn, seed=0, ledger=ledger) == whole
    # With the ledger full nothing is trained.
    assert search(study, METHODS["jtt"], drawn, seed=0, ledger=ledger, progress=stop_at(1)) == whole


def test_a_damaged_or_foreign_ledger_is_not_gone_on_from(study: Study, tmp_path: Path) -> None:
    drawn, ledger = draw_settings(METHODS["erm"], BASE, 4), tmp_path / "ledger.json"
    expected = search(study, METHODS["erm"], drawn, seed=0)
    search(study, METHODS["erm"], drawn, seed=1, ledger=ledger)
    assert search(study, METHODS["erm"], drawn, seed=0, ledger=ledger) == expected
    ledger.write_text("{")
    assert search(study, METHODS["erm"], drawn, seed=0, ledger=ledger) == expected


def test_a_diverged_setting_loses_to_any_sound_one(study: Study) -> None:
    wild = BASE.model_copy(update={"learning_rate": 1e80, "weight_decay": 0.1, "epochs": 4})
    found = search(study, METHODS["erm"], [wild, BASE.model_copy(update={"epochs": 4})], seed=0)
    assert [trial.diverged_step is None for trial in found.trials] == [False, True]
    assert found.best is found.trials[1]


def test_selection_by_average_ranks_by_average() -> None:
    by_average = TrainSettings(selection="average")
    one = Trial(settings=by_average, worst_group=0.9, average=0.5, diverged_step=None)
    other = Trial(settings=by_average, worst_group=0.1, average=0.6, diverged_step=None)
    assert other.rank > one.rank


def test_large_heads_are_trained_few_at_a_time(study: Study) -> None:
    assert runs_at_once(study) == 32
