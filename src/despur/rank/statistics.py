"""The numbers beside each pair of counts: discrepancy, interval, exact test, false-discovery rate, information.

Every function works on whole columns. ``k`` successes of ``n`` here means: ``k`` images of ``n`` classified correctly.
A pair without images on one side has no discrepancy: NaN goes in and out, never a zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import special, stats

TIE = 1e-7
"""Two tables are equally probable when their probabilities differ by less than this factor; rounding is far smaller."""


def proportion(k: Int[np.ndarray, "pairs"], n: Int[np.ndarray, "pairs"]) -> Float[np.ndarray, "pairs"]:
    """k / n in [0, 1]; NaN where n is 0."""
    return np.where(n > 0, k / np.maximum(n, 1), np.nan)


def accuracy_discrepancy(
    correct_with: Int[np.ndarray, "pairs"],
    n_with: Int[np.ndarray, "pairs"],
    correct_without: Int[np.ndarray, "pairs"],
    n_without: Int[np.ndarray, "pairs"],
) -> Float[np.ndarray, "pairs"]:
    """Eq. 7: accuracy with the attribute minus accuracy without it, in [-1, 1]; NaN where either side is empty."""
    return proportion(correct_with, n_with) - proportion(correct_without, n_without)


def wilson_interval(
    k: Int[np.ndarray, "pairs"], n: Int[np.ndarray, "pairs"], confidence: float = 0.95
) -> tuple[Float[np.ndarray, "pairs"], Float[np.ndarray, "pairs"]]:
    """Wilson's score interval of a proportion; NaN where n is 0."""
    z = float(special.ndtri(0.5 + confidence / 2))
    rate, size = proportion(k, n), np.maximum(n, 1)
    centre = rate + z**2 / (2 * size)
    half = z * np.sqrt(rate * (1 - rate) / size + z**2 / (4 * size**2))
    low, high = (centre - half) / (1 + z**2 / size), (centre + half) / (1 + z**2 / size)
    # At a rate of exactly 0 or 1 one bound is the rate itself, which rounding can put a little past it.
    return np.where(rate == 0, 0.0, np.minimum(low, rate)), np.where(rate == 1, 1.0, np.maximum(high, rate))


def newcombe_interval(
    k1: Int[np.ndarray, "pairs"],
    n1: Int[np.ndarray, "pairs"],
    k2: Int[np.ndarray, "pairs"],
    n2: Int[np.ndarray, "pairs"],
    confidence: float = 0.95,
) -> tuple[Float[np.ndarray, "pairs"], Float[np.ndarray, "pairs"]]:
    """Interval of k1/n1 - k2/n2 from both Wilson intervals (Newcombe 1998, method 10); NaN where a side is empty."""
    rate1, rate2 = proportion(k1, n1), proportion(k2, n2)
    low1, high1 = wilson_interval(k1, n1, confidence)
    low2, high2 = wilson_interval(k2, n2, confidence)
    difference = rate1 - rate2
    low = difference - np.hypot(rate1 - low1, high2 - rate2)
    high = difference + np.hypot(high1 - rate1, rate2 - low2)
    return low, high


def fisher_exact(
    k1: Int[np.ndarray, "pairs"],
    n1: Int[np.ndarray, "pairs"],
    k2: Int[np.ndarray, "pairs"],
    n2: Int[np.ndarray, "pairs"],
) -> Float[np.ndarray, "pairs"]:
    """Fisher's exact test, two-sided: the probability of every table with these margins that is no likelier than ours.

    NaN where a side is empty: nothing was compared.
    """
    p_values = np.full(len(k1), np.nan)
    asked = (n1 > 0) & (n2 > 0)
    table = tuple(column[asked] for column in (k1, n1, k1 + k2, n1 + n2))
    first, where = _distinct(table)
    p_values[asked] = _two_sided(*(column[first] for column in table))[where]
    return p_values


def _distinct(
    columns: Sequence[Int[np.ndarray, "rows"]],
) -> tuple[Int[np.ndarray, "distinct"], Int[np.ndarray, "rows"]]:
    """A row of each kind, and each row's kind, of columns of numbers that are not negative.

    Rows are numbered column by column: ``np.unique`` over whole rows compares them as strings of bytes.
    """
    kind, first = np.zeros(len(columns[0]), dtype=np.int64), np.zeros(0, dtype=np.int64)
    for column in columns if len(kind) else ():
        _, first, kind = np.unique(kind * (int(column.max()) + 1) + column, return_index=True, return_inverse=True)
    return first, kind


def _two_sided(
    x: Int[np.ndarray, "tables"],
    drawn: Int[np.ndarray, "tables"],
    good: Int[np.ndarray, "tables"],
    total: Int[np.ndarray, "tables"],
) -> Float[np.ndarray, "tables"]:
    """Two-sided p of drawing x good ones in ``drawn`` from ``total`` of which ``good`` are good."""
    if len(x) == 0:
        return np.zeros(0)
    log_factorial = special.gammaln(np.arange(int(total.max()) + 1) + 1.0)

    def log_choose(n: Int[np.ndarray, "tables"], k: Int[np.ndarray, "tables"]) -> Float[np.ndarray, "tables"]:
        return log_factorial[n] - log_factorial[k] - log_factorial[n - k]

    every = log_choose(total, drawn)

    def log_probability(value: Int[np.ndarray, "tables"]) -> Float[np.ndarray, "tables"]:
        return log_choose(good, value) + log_choose(total - good, drawn - value) - every

    lowest, highest = np.maximum(0, drawn + good - total), np.minimum(drawn, good)
    mode = np.clip((drawn + 1) * (good + 1) // (total + 2), lowest, highest)
    ours = log_probability(x)
    left = x <= mode

    # Probabilities fall on both sides of the mode: bisect for the first value across it that is no likelier than ours.
    inside = mode.copy()
    outside = np.where(left, highest + 1, lowest - 1)
    while np.any(open_ := np.abs(outside - inside) > 1):
        middle = (inside + outside) // 2
        rarer = log_probability(np.clip(middle, lowest, highest)) <= ours + TIE
        outside = np.where(open_ & rarer, middle, outside)
        inside = np.where(open_ & ~rarer, middle, inside)
    across = (outside >= lowest) & (outside <= highest)
    first = np.where(across, np.exp(log_probability(np.clip(outside, lowest, highest))), 0.0)

    direction = np.where(left, -1, 1)
    near = _tail(np.exp(ours), x, direction, drawn, good, total)
    far = _tail(first, outside, -direction, drawn, good, total)
    at_mode = ours >= log_probability(mode) - TIE
    return np.where(at_mode, 1.0, np.minimum(near + far, 1.0))


def _tail(
    first: Float[np.ndarray, "tables"],
    x: Int[np.ndarray, "tables"],
    direction: Int[np.ndarray, "tables"],
    drawn: Int[np.ndarray, "tables"],
    good: Int[np.ndarray, "tables"],
    total: Int[np.ndarray, "tables"],
) -> Float[np.ndarray, "tables"]:
    """Sum of hypergeometric probabilities from x outwards, by the ratio of neighbours, until a term adds nothing."""
    bad = total - good
    # Walking down is walking up with good and bad exchanged: x good ones are drawn - x bad ones.
    up = direction > 0
    value = np.where(up, x, drawn - x).astype(np.float64)
    mine = np.where(up, good, bad).astype(np.float64)
    other = np.where(up, bad, good).astype(np.float64)
    size = drawn.astype(np.float64)
    sums, term, active = first.copy(), first.copy(), np.flatnonzero(first > 0)
    value, mine, other, size, term = (column[active] for column in (value, mine, other, size, term))
    while len(active):
        term = term * (mine - value) * (size - value) / ((value + 1) * (other - size + value + 1))
        value = value + 1
        sums[active] += term
        going = term > sums[active] * 1e-17
        if not going.all():
            active = active[going]
            value, mine, other, size, term = (column[going] for column in (value, mine, other, size, term))
    return sums


def false_discovery_rate(p_values: Float[np.ndarray, "pairs"]) -> Float[np.ndarray, "pairs"]:
    """Benjamini-Hochberg over every pair that was tested; NaN stays NaN and does not count as a test."""
    rates = np.full(len(p_values), np.nan)
    tested = ~np.isnan(p_values)
    if tested.any():
        rates[tested] = stats.false_discovery_control(p_values[tested], method="bh")
    return rates


def mutual_information(
    correct_with: Int[np.ndarray, "pairs"],
    n_with: Int[np.ndarray, "pairs"],
    correct_without: Int[np.ndarray, "pairs"],
    n_without: Int[np.ndarray, "pairs"],
) -> Float[np.ndarray, "pairs"]:
    """Information, in nats, that an attribute's presence gives about the model's error, in [0, log 2]; 0 where it gives
    none (no image on one side, no errors).
    """
    total = (n_with + n_without).astype(np.float64)
    correct = correct_with + correct_without
    information = np.zeros(len(total))
    for cell, row, column in (
        (correct_with, n_with, correct),
        (n_with - correct_with, n_with, total - correct),
        (correct_without, n_without, correct),
        (n_without - correct_without, n_without, total - correct),
    ):
        expected = np.maximum(row * column / total, np.finfo(np.float64).tiny)
        information += special.xlogy(cell, np.maximum(cell, 1) / expected)
    return np.maximum(information / total, 0.0)
