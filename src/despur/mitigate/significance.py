"""Whether two methods differ: paired over seeds, and over images that are drawn again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

RESAMPLES = 2_000
"""Draws of the test split that an interval is read from."""

AT_ONCE = 2**24
"""Numbers in the draws of a group that are held together: 128 MiB."""


def worst_groups(
    correct: Bool[np.ndarray, "seeds images"], groups: Int[np.ndarray, "images"]
) -> Float[np.ndarray, "seeds"]:
    """Each seed's accuracy in its worst group; groups without images do not count."""
    return np.min([correct[:, groups == group].mean(axis=1) for group in np.unique(groups)], axis=0)


def paired_p_value(one: Float[np.ndarray, "seeds"], other: Float[np.ndarray, "seeds"]) -> float | None:
    """Two-sided paired t-test that the means over seeds are equal.

    A method without seeds stands against every seed of the other.

    Returns:
        1 where no pair differs; None for fewer than two pairs, or where all differ by the same amount: then there is
        no deviation to hold the difference against, and two equal seeds are no proof.
    """
    from scipy.stats import ttest_rel  # here: it is half a second

    one, other = np.broadcast_arrays(one, other)
    if len(one) < 2:
        return None
    differences = one - other
    if np.ptp(differences) < 1e-12:
        return 1.0 if abs(differences[0]) < 1e-12 else None
    return float(ttest_rel(one, other).pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted for their number (Holm 1979): rejecting those below α errs in one or more with probability α at most."""
    known = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for done, (value, place) in enumerate(known):
        highest = max(highest, min(1.0, value * (len(known) - done)))
        adjusted[place] = highest
    return adjusted


def resampled_worst_groups(
    correct: Sequence[Bool[np.ndarray, "seeds images"]],
    groups: Int[np.ndarray, "images"],
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Float[np.ndarray, "methods resamples"]:
    """Each method's mean worst group over seeds, on test splits drawn again with replacement within every group.

    All methods see the same draws, so that differences between rows are paired.

    Args:
        correct: of each method; methods may have different numbers of seeds.
    """
    columns = np.concatenate(correct).T.astype(np.float32)
    worst = np.full((resamples, columns.shape[1]), np.inf, dtype=np.float32)
    for group in np.unique(groups):
        own = columns[groups == group]
        size = len(own)
        at_once = max(1, AT_ONCE // size)
        for first in range(0, resamples, at_once):
            part = worst[first : first + at_once]
            counts = generator.multinomial(size, np.full(size, 1 / size), size=len(part)).astype(np.float32)
            np.minimum(part, counts @ own / size, out=part)
    ends = np.cumsum([len(rows) for rows in correct])
    return np.stack([part.mean(axis=1) for part in np.split(worst, ends[:-1], axis=1)]).astype(np.float64)


def interval(values: Float[np.ndarray, "resamples"]) -> tuple[float, float]:
    """The middle 95% of resampled values."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
