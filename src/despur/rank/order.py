"""In which order a person meets the pairs, which of them are candidates, and which side they are on."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

Order = Literal["discrepancy", "interval", "mutual-information", "released"]
ORDERS: tuple[str, ...] = get_args(Order)

SIDES = HELPS, HURTS, INCOMPARABLE = 0, 1, 2
"""The sides of :func:`sides`, in the order in which a table shows them."""


def strength(
    order: Order,
    discrepancy: Float[np.ndarray, "pairs"],
    ci_low: Float[np.ndarray, "pairs"],
    ci_high: Float[np.ndarray, "pairs"],
    information: Float[np.ndarray, "pairs"],
) -> Float[np.ndarray, "pairs"]:
    """How strongly a pair speaks for its own side: the larger, the earlier (METHOD 3.3).

    * ``discrepancy`` and ``released``: its size.
    * ``interval``: the end of its interval that lies nearer to "no difference"; negative where the interval holds 0.
    * ``mutual-information``: the information that presence gives about error.
    """
    if order == "interval":
        return np.where(discrepancy >= 0, ci_low, -ci_high)
    if order == "mutual-information":
        return information
    return np.abs(discrepancy)


def sides(discrepancy: Float[np.ndarray, "pairs"]) -> Int[np.ndarray, "pairs"]:
    """``HELPS`` where δ ≥ 0, ``HURTS`` where δ < 0, ``INCOMPARABLE`` where there is no δ."""
    return np.where(np.isnan(discrepancy), INCOMPARABLE, np.where(discrepancy < 0, HURTS, HELPS))


def rank_within(
    group: Int[np.ndarray, "pairs"], score: Float[np.ndarray, "pairs"], tie: Int[np.ndarray, "pairs"]
) -> Int[np.ndarray, "pairs"]:
    """Place of each pair among those of its group, 0 for the highest score; equal scores by ``tie``, ascending."""
    order = np.lexsort((tie, -score, group))
    ordered = group[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1 if len(ordered) else 0))
    places = np.empty(len(group), dtype=np.int64)
    places[order] = np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group)))
    return places


def candidates(
    order: Order,
    label: Int[np.ndarray, "pairs"],
    phrase: Int[np.ndarray, "pairs"],
    side: Int[np.ndarray, "pairs"],
    strengths: Float[np.ndarray, "pairs"],
    information: Float[np.ndarray, "pairs"],
    *,
    per_class: int,
    kept_by_information: int,
) -> Bool[np.ndarray, "pairs"]:
    """Pairs that may be shown: a class's first ``per_class`` on either side.

    In the ``released`` order, the ``kept_by_information`` pairs of the class that carry the most information.

    Args:
        label, phrase: class index and phrase index of each pair; equals are ordered by phrase.
        side: as :func:`sides` has it.
        strengths: as :func:`strength` has it.
        information: mutual information, nats.
    """
    comparable = side != INCOMPARABLE
    if order == "released":
        ranked = rank_within(label, np.where(comparable, information, -1.0), phrase)
        return comparable & (ranked < kept_by_information)
    one_side_of_a_class = label * len(SIDES) + side
    return comparable & (rank_within(one_side_of_a_class, np.where(comparable, strengths, 0.0), phrase) < per_class)
