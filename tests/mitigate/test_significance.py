"""Whether two methods differ, on data where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from despur.mitigate import significance
from despur.mitigate.significance import holm, interval, paired_p_value, resampled_worst_groups, worst_groups

GROUPS = np.repeat([0, 1, 3], 200)  # group 2 has no images


def hits(*rates: float, seeds: int = 1) -> np.ndarray:
    """Each group's first images are right, as many as its rate says."""
    one = np.concatenate([np.arange(200) < 200 * rate for rate in rates])
    return np.tile(one, (seeds, 1))


def test_the_worst_group_is_the_lowest_of_those_that_have_images() -> None:
    assert worst_groups(hits(0.9, 0.5, 0.7, seeds=2), GROUPS).tolist() == [0.5, 0.5]


def test_a_paired_test_sees_a_small_difference_that_every_seed_has() -> None:
    scatter = np.array([0.60, 0.70, 0.80, 0.65, 0.75])
    steady = scatter - 0.02 + np.array([0.001, -0.001, 0.0, 0.001, -0.001])
    assert paired_p_value(scatter, steady) < 1e-4
    assert paired_p_value(scatter, steady[::-1]) > 0.3


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [([0.5], [0.6], None), ([0.5, 0.6], [0.5, 0.6], 1.0), ([0.5, 0.6], [0.4, 0.5], None)],
)
def test_degenerate_pairs(one: list[float], other: list[float], expected: float | None) -> None:
    assert paired_p_value(np.array(one), np.array(other)) == expected


def test_a_method_without_seeds_stands_against_every_seed() -> None:
    assert paired_p_value(np.array([0.5]), np.array([0.6, 0.62, 0.61])) < 0.01


def test_holm_s_steps() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]


def test_an_interval_covers_a_difference_of_chance_and_not_one_of_merit() -> None:
    generator = np.random.default_rng(0)
    same, shuffled = hits(0.9, 0.7, 0.8), hits(0.9, 0.7, 0.8)
    for group in (0, 1, 3):
        shuffled[0, group == GROUPS] = generator.permutation(shuffled[0, group == GROUPS])
    better = hits(0.95, 0.85, 0.9)
    one, other, third = resampled_worst_groups([same, shuffled, better], GROUPS, generator, 500)
    low, high = interval(other - one)
    assert low < 0 < high
    low, high = interval(third - one)
    assert 0.05 < low < 0.15 < high


def test_a_method_has_no_difference_from_itself_however_images_are_drawn() -> None:
    rates = hits(0.9, 0.7, 0.8, seeds=3)
    one, other = resampled_worst_groups([rates, rates[:1]], GROUPS, np.random.default_rng(0), 50)
    np.testing.assert_allclose(one, other)


def test_the_width_of_an_interval_is_that_of_a_binomial() -> None:
    (drawn,) = resampled_worst_groups([hits(1.0, 0.7, 1.0)], GROUPS, np.random.default_rng(0))
    assert drawn.std() == pytest.approx(np.sqrt(0.7 * 0.3 / 200), rel=0.1)


def test_draws_are_the_same_however_many_are_held_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> np.ndarray:
        return resampled_worst_groups([hits(0.9, 0.7, 0.8)], GROUPS, np.random.default_rng(0), 50)[0]

    whole = drawn()
    monkeypatch.setattr(significance, "AT_ONCE", 7 * 200)
    np.testing.assert_allclose(drawn(), whole, rtol=1e-6)
