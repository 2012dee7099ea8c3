"""In which order a person meets the pairs, which of them are candidates, and which side they are on."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from despur.errors import SettingsError, nearest

Order = Literal["discrepancy", "interval", "mutual-information", "released"]
ORDERS: tuple[str, ...] = get_args(Order)


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
    if order in ("discrepancy", "released"):
        return np.abs(discrepancy)
    if order == "interval":
        return np.where(discrepancy >= 0, ci_low, -ci_high)
    if order == "mutual-information":
        return information
    raise SettingsError(f"there is no order {order!r}", now=nearest(order, ORDERS))


def sides(discrepancy: Float[np.ndarray, "pairs"]) -> Int[np.ndarray, "pairs"]:
    """0: the attribute helps (δ ≥ 0), 1: it hurts (δ < 0), 2: there is nothing to compare it with."""
    return np.where(np.isnan(discrepancy), 2, (discrepancy < 0).astype(np.int64))


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
    power: Float[np.ndarray, "pairs"],
    information: Float[np.ndarray, "pairs"],
    *,
    per_class: int,
    kept_by_information: int,
) -> Bool[np.ndarray, "pairs"]:
    """Pairs that may be shown: a class's first ``per_class`` on either side.

    In the ``released`` order, the ``kept_by_information`` pairs of the class that carry the most information.
    """
    comparable = side < 2
    if order == "released":
        ranked = rank_within(label, np.where(comparable, information, -1.0), phrase)
        return comparable & (ranked < kept_by_information)
    return comparable & (rank_within(label * 3 + side, np.where(comparable, power, 0.0), phrase) < per_class)
