"""Which run stands for "after", and what is said of runs that validation likes no better than what came before."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest

from despur.mitigate import Run, TrainSettings
from despur.mitigate.settings import Selection
from despur.pipeline.chosen import best_method, best_on_validation, best_run, of_other_groups, unhelped


def run_of(
    method: str,
    worst: Sequence[float],
    average: Sequence[float],
    *,
    seed: int = 0,
    selection: Selection = "worst-group",
    diverged: int | None = None,
    groups: Sequence[str] = (),
) -> Run:
    """A run whose last epoch is the one that was kept."""
    of_groups = {f"accuracy/{group}": worst for group in groups}
    history = pa.table({"worst_group": worst, "average": average, **of_groups})
    return Run(method, "water", seed, TrainSettings(selection=selection), {}, len(worst) - 1, history, diverged, 0.0)


BEFORE = run_of("pretrained", [0.5], [0.8])


def test_the_best_method_is_that_of_the_highest_mean_worst_group_over_sound_seeds() -> None:
    runs = {
        "pretrained": run_of("pretrained", [0.99], [0.99]),
        "erm-seed0": run_of("erm", [0.5, 0.9], [0.8, 0.9]),
        "erm-seed1": run_of("erm", [0.5, 0.5], [0.8, 0.9], seed=1),
        "jtt-seed0": run_of("jtt", [0.5, 0.99], [0.8, 0.9], diverged=7),
        "jtt-seed1": run_of("jtt", [0.5, 0.8], [0.8, 0.7], seed=1),
    }
    assert best_method(runs) == "jtt"
    assert best_run(runs) == "jtt-seed1"
    assert best_method({"pretrained": BEFORE}) is None


def test_what_was_fitted_to_validation_is_the_best_only_where_there_is_no_other() -> None:
    scores = {"pretrained": 0.99, "dfr": 0.95, "erm": 0.6, "jtt": 0.7}
    assert best_on_validation(scores) == "jtt"
    assert best_on_validation({"pretrained": 0.99, "dfr": 0.95}) == "dfr"
    assert best_on_validation({"pretrained": 0.99}) is None
    runs = {"dfr-seed0": run_of("dfr", [0.95], [0.9]), "erm-seed0": run_of("erm", [0.5, 0.6], [0.8, 0.9])}
    assert best_run({"pretrained": BEFORE, **runs}) == "erm-seed0"


def test_runs_that_were_selected_without_groups_are_told_apart_without_groups() -> None:
    runs = {
        "pretrained": BEFORE,
        "erm-seed0": run_of("erm", [0.5, 0.6], [0.8, 0.95], selection="average"),
        "group-dro-seed0": run_of("group-dro", [0.5, 0.9], [0.8, 0.9]),
    }
    assert best_method(runs) == "erm"


def test_a_run_that_was_selected_by_other_groups_is_not_the_best_by_them() -> None:
    judged, classes = ("gull with sea", "gull without sea"), ("gull", "owl")
    runs = {
        "pretrained": run_of("pretrained", [0.5], [0.8], groups=judged),
        "erm-seed0": run_of("erm", [0.5, 0.9], [0.8, 0.9], groups=classes),
        "jtt-seed0": run_of("jtt", [0.5, 0.6], [0.8, 0.9], groups=judged),
    }
    assert best_run(runs) == "jtt-seed0"
    (said,) = of_other_groups(runs)
    assert said.endswith("not chosen from: ERM")
    del runs["jtt-seed0"]
    assert best_run(runs) == "erm-seed0"
    assert of_other_groups(runs) == []


@pytest.mark.parametrize(("worst", "sentences"), [(0.4, 1), (0.5, 1), (0.51, 0)])
def test_what_validation_likes_no_better_than_the_model_as_it_came_is_said(worst: float, sentences: int) -> None:
    found = unhelped({"pretrained": BEFORE, "erm-seed0": run_of("erm", [0.5, worst], [0.8, 0.9])})
    assert len(found) == sentences
    if sentences:
        assert found[0].startswith(
            "no better on validation than the model as it came, whose worst group there is 50.0%"
        )
        assert found[0].endswith(f": ERM {100 * worst:.1f}%")


def test_without_groups_it_is_said_of_the_average() -> None:
    kept = run_of("erm", [0.5, 0.9], [0.8, 0.7], selection="average")
    (said,) = unhelped({"pretrained": BEFORE, "erm-seed0": kept})
    assert "whose average there is 80.0%: ERM 70.0%" in said


def test_several_methods_are_one_sentence() -> None:
    runs = {name: run_of(name, [0.5, 0.4], [0.8, 0.9]) for name in ("erm", "jtt")}
    (said,) = unhelped({"pretrained": BEFORE, **runs})
    assert said.endswith(": ERM 40.0%, JTT 40.0%")


def test_nothing_is_said_of_runs_that_diverged() -> None:
    assert unhelped({"pretrained": BEFORE, "erm-seed0": run_of("erm", [0.5, 0.1], [0.8, 0.9], diverged=3)}) == []
