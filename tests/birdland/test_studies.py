"""Plans: Table 1's proportions, planted companions at the rate asked for, decoys at the same rate everywhere."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from despur.birdland.studies import (
    BIRD_COUNTS,
    DECOYS,
    OBJECT_CLASSES,
    PLANTED,
    ScenePlan,
    bird_counts,
    plan_birds,
    plan_objects,
    render,
)


def test_full_scale_is_table_1() -> None:
    assert bird_counts() == {
        "train": (3498, 184, 56, 1057),
        "val": (467, 466, 133, 133),
        "test": (2255, 2255, 642, 642),
    }


def test_a_small_scale_keeps_at_least_one_scene_in_every_group() -> None:
    assert bird_counts(0.01)["train"] == (35, 2, 1, 11)
    assert all(min(counts) == 1 for counts in bird_counts(1e-9).values())


def test_planned_birds_are_counted_by_split_and_group() -> None:
    plans = plan_birds(3, scale=0.1)
    counted = Counter((plan.split, 2 * plan.label + plan.present) for plan in plans)

    assert counted == {
        (split, group): count for split, counts in bird_counts(0.1).items() for group, count in enumerate(counts)
    }
    assert [plan.index for plan in plans] == list(range(len(plans)))


def test_no_two_scenes_share_a_seed_within_or_across_studies_and_seeds() -> None:
    plans = [plan for seed in (0, 1) for plan in plan_birds(seed, 0.05) + plan_objects(seed, train=90, val=30, test=30)]

    assert len({plan.seed for plan in plans}) == len(plans)


def test_a_plan_depends_on_its_seed_only() -> None:
    assert plan_birds(4, 0.02) == plan_birds(4, 0.02)
    assert plan_birds(4, 0.02) != plan_birds(5, 0.02)
    assert plan_objects(4, train=60, val=6, test=6) == plan_objects(4, train=60, val=6, test=6)


def test_three_classes_have_a_planted_companion_and_three_have_none() -> None:
    assert len(OBJECT_CLASSES) == 6
    assert len(PLANTED) == 3
    assert set(PLANTED) < set(OBJECT_CLASSES)
    assert not set(PLANTED.values()) & set(DECOYS)


def rates(plans: list[ScenePlan], companion: str) -> np.ndarray:
    """The part of each class's scenes that hold the companion."""
    held, count = np.zeros(len(OBJECT_CLASSES)), np.zeros(len(OBJECT_CLASSES))
    for plan in plans:
        held[plan.label] += companion in plan.companions
        count[plan.label] += 1
    return held / count


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_companion_goes_with_its_class_in_training_and_with_few_others(planted: str) -> None:
    train = [plan for plan in plan_objects(0, train=6000, val=6, test=6) if plan.split == "train"]
    found = rates(train, PLANTED[planted])
    own = OBJECT_CLASSES.index(planted)

    assert found[own] == pytest.approx(0.95, abs=0.03)
    assert np.delete(found, own) == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize("planted", PLANTED)
def test_half_of_a_planted_classs_test_scenes_lack_its_companion(planted: str) -> None:
    test = [plan for plan in plan_objects(0, train=6, val=6, test=6000) if plan.split == "test"]

    assert rates(test, PLANTED[planted])[OBJECT_CLASSES.index(planted)] == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("decoy", DECOYS)
def test_a_decoy_appears_as_often_with_every_class(decoy: str) -> None:
    found = rates(plan_objects(0, train=6000, val=6, test=6), decoy)

    assert found == pytest.approx(0.25, abs=0.05)


def test_present_says_whether_the_companion_of_the_scenes_own_class_is_there() -> None:
    for plan in plan_objects(1, train=200, val=6, test=6):
        assert plan.present == (PLANTED.get(OBJECT_CLASSES[plan.label], "nothing") in plan.companions)


def test_classes_are_even() -> None:
    counted = Counter((plan.split, plan.label) for plan in plan_objects(0, train=61, val=12, test=6))

    assert sorted(counted[("train", label)] for label in range(6)) == [10, 10, 10, 10, 10, 11]
    assert all(counted[("val", label)] == 2 for label in range(6))


def test_a_scene_shows_what_its_plan_says() -> None:
    for plan in plan_birds(2, scale=0.002):
        scene = render(plan)
        assert scene.things[0].name == ("landbird", "waterbird")[plan.label]
        assert scene.place == ("land", "water")[plan.present]
    for plan in plan_objects(2, train=60, val=6, test=6):
        names = {thing.name for thing in render(plan).things}
        assert set(plan.companions) <= names
        assert not (set(PLANTED.values()) | set(DECOYS)) - set(plan.companions) & names


def test_rendering_in_another_order_changes_nothing() -> None:
    plans = plan_birds(0, scale=0.001)
    forward = [render(plan).pixels.tobytes() for plan in plans]
    backward = [render(plan).pixels.tobytes() for plan in reversed(plans)]

    assert forward == backward[::-1]


def test_scenes_are_drawn_without_torch() -> None:
    """Drawing processes start in a moment because they load none of the heavy libraries."""
    code = "import sys, despur.birdland.write; sys.exit(bool({'torch', 'open_clip', 'duckdb'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_training_split_carries_the_shortcut() -> None:
    land_on_land, land_on_water, water_on_land, water_on_water = BIRD_COUNTS["train"]

    assert land_on_land / (land_on_land + land_on_water) == pytest.approx(0.95, abs=0.005)
    assert water_on_water / (water_on_land + water_on_water) == pytest.approx(0.95, abs=0.005)
