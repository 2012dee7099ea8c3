from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from despur.rank.overlap import leaders, overlap


def jaccard(one: set[int], other: set[int]) -> float:
    return len(one & other) / len(one | other) if one | other else 1.0


@given(st.lists(st.sets(st.integers(0, 9)), min_size=1, max_size=5))
def test_overlap_is_the_smaller_jaccard_index_of_images_with_and_images_without(sets: list[set[int]]) -> None:
    everything = set(range(10))
    expected = [[min(jaccard(a, b), jaccard(everything - a, everything - b)) for b in sets] for a in sets]
    rows = [np.array(sorted(one), dtype=np.int64) for one in sets]
    np.testing.assert_allclose(overlap(rows, 10), expected)


def test_two_attributes_of_nearly_every_image_do_not_overlap_unless_they_miss_the_same_ones() -> None:
    sky, ground = np.arange(0, 95), np.arange(5, 100)
    assert overlap([sky, ground], 100)[0, 1] == 0.0


def test_a_follower_overlaps_with_its_leader_itself_and_not_through_a_third() -> None:
    water, lake, mud = (np.arange(start, start + 30) for start in (0, 8, 16))
    similarity = overlap([water, lake, mud], 100)
    assert similarity[0, 1] > 0.5
    assert similarity[1, 2] > 0.5
    assert leaders(similarity, 0.5).tolist() == [0, 0, 2]


def test_the_first_leader_takes_a_follower_that_two_could_take() -> None:
    similarity = np.array([[1.0, 0.1, 0.6], [0.1, 1.0, 0.9], [0.6, 0.9, 1.0]])
    assert leaders(similarity, 0.5).tolist() == [0, 1, 0]
