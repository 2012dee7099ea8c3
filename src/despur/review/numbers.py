"""The numbers of one pair, from its images: again after every image that a person strikes out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from despur.rank.statistics import accuracy_discrepancy, fisher_exact, newcombe_interval, proportion, wilson_interval


@dataclass(frozen=True)
class Rate:
    """An accuracy in [0, 1] with its 95% Wilson interval; None where there is no image."""

    count: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Numbers:
    """What a card says of a pair.

    Attributes:
        present, absent: accuracy of the class's images with and without the attribute.
        discrepancy: Eq. 7; with ``low`` and ``high`` its 95% interval; None where one side has no image.
        p_value: of Fisher's exact test.
        confused: the most frequent wrong class among images without (its index); None: no error.
    """

    present: Rate
    absent: Rate
    discrepancy: float | None
    low: float | None
    high: float | None
    p_value: float | None
    confused: int | None


def pair_numbers(
    present: Bool[np.ndarray, "images"], correct: Bool[np.ndarray, "images"], predicted: Int[np.ndarray, "images"]
) -> Numbers:
    """Numbers over the images of one class.

    Args:
        present: whether an image has the attribute.
        correct, predicted: whether the model is right about it, and the class that it says.
    """
    n = np.array([present.sum(), (~present).sum()])
    k = np.array([(correct & present).sum(), (correct & ~present).sum()])
    rate, (low, high) = proportion(k, n), wilson_interval(k, n)
    four = (k[:1], n[:1], k[1:], n[1:])
    difference, (least, most) = accuracy_discrepancy(*four), newcombe_interval(*four)
    wrong = np.bincount(predicted[~present & ~correct])
    sides = [Rate(int(n[side]), known(rate[side]), known(low[side]), known(high[side])) for side in (0, 1)]
    return Numbers(
        *sides,
        discrepancy=known(difference[0]),
        low=known(least[0]),
        high=known(most[0]),
        p_value=known(fisher_exact(*four)[0]),
        confused=int(wrong.argmax()) if wrong.any() else None,
    )


def known(value: float | None) -> float | None:
    """A number, or None for NaN."""
    return None if value is None or np.isnan(value) else float(value)
