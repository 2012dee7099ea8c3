"""The rows that a person is shown: one a group of overlapping attributes, with the images that make it plain."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Int

from despur.rank.counting import PairCounts, Population, Sightings
from despur.rank.order import HELPS, HURTS
from despur.rank.overlap import leaders, overlap
from despur.rank.telling import order_by_margin, telling_images


@dataclass(frozen=True)
class Shown:
    """One row to show: the pair's index, and the images that tell it, clearest first."""

    pair: int
    telling_with: Int[np.ndarray, "with"]
    telling_without: Int[np.ndarray, "without"]


def shortlist(
    population: Population,
    sightings: Sightings,
    counts: PairCounts,
    side: Int[np.ndarray, "pairs"],
    ordered: Int[np.ndarray, "candidates"],
    *,
    same: float | None,
    top: int,
    telling: int,
) -> tuple[Int[np.ndarray, "pairs"], list[Shown]]:
    """Which pair stands for each pair (itself, unless it overlaps with an earlier one), and the rows to show.

    Args:
        side: as :func:`despur.rank.order.sides` has it; what helps and what hurts are grouped and shown apart.
        ordered: indices of the candidate pairs, the first to be shown first.
        same: attributes that overlap this much are one row; None: each is its own.
        top: rows a class and side.
        telling: images a side of a row.
    """
    leader = np.arange(len(counts))
    shown: list[Shown] = []
    by_class = ordered[np.argsort(counts.label[ordered], kind="stable")]
    edges = np.flatnonzero(np.diff(counts.label[by_class], prepend=-1, append=-1))
    for start, stop in pairwise(edges.tolist()):
        pairs = by_class[start:stop]
        label = int(counts.label[pairs[0]])
        own = population.of_class(label)
        phrase, image = sightings.of_class(label)
        first, last = (np.searchsorted(phrase, counts.phrase[pairs], side=edge) for edge in ("left", "right"))
        images = {pair: image[a:b] - own.start for pair, a, b in zip(pairs.tolist(), first, last, strict=True)}
        by_margin = order_by_margin(population.margin[own])
        for shown_side in (HELPS, HURTS):
            chosen = pairs[side[pairs] == shown_side]
            if same is not None and len(chosen) > 1:
                follows = leaders(overlap([images[pair] for pair in chosen.tolist()], len(by_margin)), same)
                leader[chosen] = chosen[follows]
            for pair in chosen[leader[chosen] == chosen][:top].tolist():
                present = np.zeros(len(by_margin), dtype=np.bool_)
                present[images[pair]] = True
                rows_with, rows_without = telling_images(by_margin, present, shown_side == HELPS, telling)
                shown.append(Shown(pair, rows_with + own.start, rows_without + own.start))
    return leader, shown
