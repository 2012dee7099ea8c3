from __future__ import annotations

from fractions import Fraction
from math import comb, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact as scipy_fisher
from sklearn.metrics import mutual_info_score
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

from despur.rank import statistics


def columns(*values: int) -> tuple[np.ndarray, ...]:
    return tuple(np.array([value]) for value in values)


@st.composite
def tables(draw: st.DrawFn, largest: int = 40) -> tuple[int, int, int, int]:
    """(k1, n1, k2, n2) with both sides populated."""
    n1, n2 = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    return draw(st.integers(0, n1)), n1, draw(st.integers(0, n2)), n2


def exact_two_sided(k1: int, n1: int, k2: int, n2: int) -> float:
    """Fisher's p from whole numbers: the weight of every table with the same margins that is no likelier."""
    good, total = k1 + k2, n1 + n2
    weights = [comb(good, k) * comb(total - good, n1 - k) for k in range(max(0, n1 + good - total), min(n1, good) + 1)]
    ours = comb(good, k1) * comb(total - good, n1 - k1)
    return float(Fraction(sum(weight for weight in weights if weight <= ours), sum(weights)))


@given(tables())
def test_fishers_p_is_the_exact_sum_over_tables_no_likelier(table: tuple[int, int, int, int]) -> None:
    assert statistics.fisher_exact(*columns(*table))[0] == pytest.approx(exact_two_sided(*table), rel=1e-9)


@pytest.mark.parametrize("table", [(700, 800, 150, 480), (3, 900, 40, 1100), (450, 500, 899, 1000), (0, 60, 900, 1000)])
def test_fishers_p_agrees_with_scipy_on_large_tables(table: tuple[int, int, int, int]) -> None:
    k1, n1, k2, n2 = table
    expected = scipy_fisher([[k1, n1 - k1], [k2, n2 - k2]]).pvalue
    assert statistics.fisher_exact(*columns(*table))[0] == pytest.approx(expected, rel=1e-8)


def test_fishers_p_of_many_tables_is_that_of_each() -> None:
    rng = np.random.default_rng(0)
    n1, n2 = rng.integers(1, 300, 400), rng.integers(1, 300, 400)
    k1, k2 = rng.integers(0, n1 + 1), rng.integers(0, n2 + 1)
    together = statistics.fisher_exact(k1, n1, k2, n2)
    apart = [statistics.fisher_exact(*(column[i : i + 1] for column in (k1, n1, k2, n2)))[0] for i in range(400)]
    np.testing.assert_array_equal(together, apart)


def test_where_a_side_is_empty_nothing_is_compared() -> None:
    empty = columns(0, 0, 3, 5)
    assert np.isnan(statistics.accuracy_discrepancy(*empty)[0])
    assert np.isnan(statistics.fisher_exact(*empty)[0])
    assert np.isnan(statistics.newcombe_interval(*empty)).all()
    assert statistics.mutual_information(*empty)[0] == 0.0


def test_eight_of_ten_against_two_of_ten_is_a_discrepancy_of_six_tenths() -> None:
    assert statistics.accuracy_discrepancy(*columns(8, 10, 2, 10))[0] == pytest.approx(0.6)


@given(tables(200))
def test_the_interval_is_statsmodels_newcombe_interval(table: tuple[int, int, int, int]) -> None:
    low, high = statistics.newcombe_interval(*columns(*table))
    expected = confint_proportions_2indep(*table, method="newcomb", compare="diff")
    np.testing.assert_allclose([low[0], high[0]], expected, atol=1e-9)


@given(tables())
def test_the_interval_holds_the_discrepancy_and_stays_within_one(table: tuple[int, int, int, int]) -> None:
    low, high = (bound[0] for bound in statistics.newcombe_interval(*columns(*table)))
    delta = statistics.accuracy_discrepancy(*columns(*table))[0]
    assert -1 - 1e-12 <= low <= delta + 1e-12
    assert delta - 1e-12 <= high <= 1 + 1e-12


@given(tables())
def test_mutual_information_is_scikit_learns(table: tuple[int, int, int, int]) -> None:
    k1, n1, k2, n2 = table
    presence = [1] * n1 + [0] * n2
    error = [0] * k1 + [1] * (n1 - k1) + [0] * k2 + [1] * (n2 - k2)
    assert statistics.mutual_information(*columns(*table))[0] == pytest.approx(
        mutual_info_score(presence, error), abs=1e-10
    )


def test_presence_that_decides_the_error_is_worth_one_bit() -> None:
    assert statistics.mutual_information(*columns(10, 10, 0, 10))[0] == pytest.approx(log(2))


@settings(max_examples=30)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30))
def test_the_false_discovery_rate_is_statsmodels_and_skips_what_was_not_tested(p_values: list[float]) -> None:
    rates = statistics.false_discovery_rate(np.array([np.nan, *p_values, np.nan]))
    assert np.isnan(rates[[0, -1]]).all()
    np.testing.assert_allclose(rates[1:-1], multipletests(p_values, method="fdr_bh")[1], atol=1e-12)
