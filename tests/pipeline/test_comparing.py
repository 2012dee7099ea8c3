"""Tuning and comparing on a small birdland: one budget, one table, and what is stopped goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from despur.backbones.protocol import Backbone
from despur.errors import SettingsError
from despur.pipeline import MitigateSettings
from despur.pipeline.comparing import (
    Comparison,
    SoundRuns,
    compare_stage,
    p_value_over_seeds,
)
from despur.pipeline.embedded import Embedded
from despur.pipeline.tuning import judged_runs, tune_stage
from despur.workspace import Workspace, read_json

METHODS = ("orth-proj", "erm", "jtt", "dfr-train")
QUICK = MitigateSettings(methods=METHODS, seeds=2, train={"epochs": 4, "batch_size": 16})


@pytest.fixture
def embedded(own_work: Path, backbone: Backbone) -> Embedded:
    return Embedded(Workspace.open(own_work), torch.device("cpu"), backbone)


def test_every_method_gets_the_same_number_of_settings(embedded: Embedded) -> None:
    chosen = tune_stage(embedded, QUICK, 4)
    own = chosen.by_model["birdland:vit"]
    assert own["erm"].keys() == {"learning_rate", "weight_decay"}
    assert own["jtt"].keys() == {"learning_rate", "weight_decay", "options"}
    assert own["orth-proj"] == own["dfr-train"] == {}  # there is nothing to choose
    trials = [len(read_json(embedded.workspace.path("tuning", f"{name}.json"))["trials"]) for name in ("erm", "jtt")]
    assert trials == [4, 4]


def test_what_was_given_for_a_model_stays_beside_what_was_searched(embedded: Embedded) -> None:
    given = {"birdland:vit": {"lc+clip": {"epochs": 2}, "erm": {"momentum": 0.5}}}
    settings = QUICK.model_copy(update={"methods": ("clip,lc",), "by_model": given})
    own = tune_stage(embedded, settings, 1).by_model["birdland:vit"]
    assert own["erm"] == {"momentum": 0.5}
    assert own["clip+lc"]["epochs"] == 2
    assert own["clip+lc"].keys() == {"epochs", "learning_rate", "weight_decay", "weights"}


def test_what_a_search_does_not_give_may_be_given_beside_it(embedded: Embedded) -> None:
    given = {"epochs": 2, "batch_size": 16, "weights": {"clip": 2.0}, "options": {"upweight": 5.0}}
    settings = QUICK.model_copy(update={"methods": ("clip+lc",), "train": given})
    tune_stage(embedded, settings, 1)
    with pytest.raises(SettingsError, match=r"jtt: options\.upweight is given, and tune searches it"):
        tune_stage(embedded, settings.model_copy(update={"methods": ("clip+lc", "jtt")}), 1)


def test_a_search_that_is_up_to_date_is_read_and_not_done(embedded: Embedded) -> None:
    first = tune_stage(embedded, QUICK, 2)
    file = embedded.workspace.path("tuning", "jtt.json")
    written = file.stat().st_mtime_ns
    assert tune_stage(embedded, QUICK, 2) == first
    assert file.stat().st_mtime_ns == written
    tune_stage(embedded, QUICK, 3)
    assert file.stat().st_mtime_ns > written


def test_a_search_from_another_seed_is_another_search(embedded: Embedded) -> None:
    def rates(seed: int) -> list[float]:
        tune_stage(embedded, QUICK.model_copy(update={"methods": ("erm",), "seed": seed}), 2)
        trials = read_json(embedded.workspace.path("tuning", "erm.json"))["trials"]
        return [trial["settings"]["learning_rate"] for trial in trials]

    first = rates(0)
    assert rates(5) != first
    assert rates(0) == first


@pytest.mark.parametrize("count", [0, 10**12])
def test_no_settings_to_try_or_more_than_can_be_drawn_is_a_mistake(embedded: Embedded, count: int) -> None:
    with pytest.raises(SettingsError, match=f"{count} settings cannot be tried"):
        tune_stage(embedded, QUICK, count)


def test_one_table_holds_every_method_and_its_difference_to_the_best_on_validation(embedded: Embedded) -> None:
    comparison = compare_stage(embedded, QUICK)
    assert [row.method for row in comparison.rows] == ["pretrained", *METHODS]
    by_name = {row.method: row for row in comparison.rows}
    reference = by_name[comparison.reference]
    assert reference.difference is None
    assert reference.validation == max(by_name[name].validation for name in METHODS)
    assert [by_name[name].seeds for name in ("pretrained", "orth-proj", "erm", "dfr-train")] == [1, 1, 2, 2]
    for row in comparison.rows:
        if row is not reference:
            assert row.difference == pytest.approx(row.worst_group - reference.worst_group)
            assert -1 <= row.low <= row.high <= 1
    assert read_json(embedded.workspace.path("comparison.json")) == comparison.to_json()
    judged = {row["method"]: row for row in judged_runs(embedded, ["erm-seed0", "erm-seed1"])}
    assert judged["erm"]["worst_group"]["mean"] == pytest.approx(by_name["erm"].worst_group)


def test_a_method_that_diverges_or_is_refused_has_a_row_while_the_others_finish(embedded: Embedded) -> None:
    wild = {"erm": {"learning_rate": 1e30, "weight_decay": 0.1}}
    settings = QUICK.model_copy(update={"methods": ("erm", "erm-prior", "dfr"), "by_method": wild})
    comparison: Comparison = compare_stage(embedded, settings)
    by_name = {row.method: row for row in comparison.rows}
    assert by_name["erm"].worst_group is None
    assert by_name["erm"].diverged == 2
    assert by_name["erm"].note == "every run diverged"
    assert by_name["dfr"].note.startswith("fewer than two validation images show waterbird")
    assert by_name["erm-prior"].worst_group is not None


def runs_of(method: str, worst: dict[int, float]) -> SoundRuns:
    rates = np.array(list(worst.values()))
    return SoundRuns(method, tuple(worst), np.ones((len(worst), 1), dtype=bool), rates, rates, 0.5)


def test_methods_are_paired_over_the_seeds_that_both_are_sound_on() -> None:
    erm = runs_of("erm", {0: 0.50, 1: 0.60, 2: 0.70, 4: 0.40})
    jtt = runs_of("jtt", {4: 0.42, 1: 0.62, 0: 0.521, 3: 0.99})  # 2 % better wherever both are sound
    assert p_value_over_seeds(erm, jtt) < 1e-3
    assert p_value_over_seeds(erm, runs_of("jtt", {1: 0.62})) is None


def test_a_method_without_seeds_is_paired_with_every_seed_that_is_sound() -> None:
    prompts, erm = runs_of("orth-proj", {0: 0.5}), runs_of("erm", {1: 0.70, 2: 0.71, 3: 0.72})
    assert p_value_over_seeds(prompts, erm) == p_value_over_seeds(erm, prompts) < 0.01
    assert p_value_over_seeds(prompts, runs_of("pretrained", {0: 0.6})) is None


def test_whom_to_compare_with_must_be_there(embedded: Embedded) -> None:
    with pytest.raises(SettingsError, match="not among the methods compared"):
        compare_stage(embedded, QUICK, against="afr")


def test_a_method_that_is_named_twice_over_is_one_row(embedded: Embedded) -> None:
    twice = QUICK.model_copy(update={"methods": ("vc+clip", "despur", "group-dro", "clip,vc")})
    comparison = compare_stage(embedded, twice, against="despur")
    assert [row.method for row in comparison.rows] == ["pretrained", "group-dro", "clip+vc"]
    assert comparison.reference == "group-dro"
    assert compare_stage(embedded, twice, against="vc,clip").reference == "clip+vc"
