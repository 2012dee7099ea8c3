from __future__ import annotations

import numpy as np

from despur.rank.order import HELPS, HURTS, INCOMPARABLE, candidates, rank_within, sides, strength

DELTA = np.array([0.6, 0.2, -0.5, np.nan])
LOW = np.array([-0.1, 0.1, -0.6, np.nan])
HIGH = np.array([0.9, 0.3, -0.4, np.nan])
INFORMATION = np.array([0.01, 0.02, 0.03, 0.0])


def test_the_interval_order_prefers_a_small_sure_discrepancy_to_a_large_doubtful_one() -> None:
    assert strength("discrepancy", DELTA, LOW, HIGH, INFORMATION)[:2].argmax() == 0
    assert strength("interval", DELTA, LOW, HIGH, INFORMATION)[:2].argmax() == 1


def test_a_hurting_attribute_is_as_strong_as_the_near_end_of_its_interval() -> None:
    assert strength("interval", DELTA, LOW, HIGH, INFORMATION)[2] == 0.4


def test_helping_hurting_and_incomparable_pairs_are_three_sides() -> None:
    assert sides(DELTA).tolist() == [HELPS, HELPS, HURTS, INCOMPARABLE]


def test_places_are_counted_within_each_group_with_ties_broken_as_told() -> None:
    places = rank_within(np.array([1, 0, 1, 1]), np.array([5.0, 1.0, 9.0, 5.0]), np.array([3, 0, 0, 2]))
    assert places.tolist() == [2, 0, 0, 1]


def test_the_released_order_keeps_what_carries_most_information_on_either_side() -> None:
    kept = candidates(
        "released",
        np.zeros(4, dtype=int),
        np.arange(4),
        sides(DELTA),
        np.abs(DELTA),
        INFORMATION,
        per_class=25,
        kept_by_information=2,
    )
    assert kept.tolist() == [False, True, True, False]


def test_each_side_of_a_class_has_its_own_first_rows() -> None:
    kept = candidates(
        "discrepancy",
        np.zeros(4, dtype=int),
        np.arange(4),
        sides(DELTA),
        np.abs(DELTA),
        INFORMATION,
        per_class=1,
        kept_by_information=5,
    )
    assert kept.tolist() == [True, False, True, False]
