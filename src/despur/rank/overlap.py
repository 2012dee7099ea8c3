"""Attributes that are seen on the same images say one thing: they are grouped, and a person judges the group once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

BLOCK = 1 << 16
"""Images counted at a time: few enough that float32 counts them exactly, in one matrix product."""


def overlap(images: Sequence[Int[np.ndarray, "seen"]], count: int) -> Float[np.ndarray, "attributes attributes"]:
    """How far two attributes part a class's images in the same way, in [0, 1].

    The smaller of two Jaccard indices: of the images with, and of the images without. The first alone calls any two
    attributes the same that nearly every image has.

    Args:
        images: for each attribute the images (0 to count - 1) that have it, each once.
        count: images in the class.
    """
    sizes = np.array([len(rows) for rows in images], dtype=np.int64)
    presence = np.zeros((len(images), count), dtype=np.bool_)
    for attribute, rows in enumerate(images):
        presence[attribute, rows] = True
    both = np.zeros((len(images), len(images)), dtype=np.int64)
    for start in range(0, count, BLOCK):
        block = presence[:, start : start + BLOCK].astype(np.float32)
        both += (block @ block.T).astype(np.int64)
    either = sizes[:, None] + sizes[None, :] - both
    neither = count - either
    with_one_missing = count - both
    present = np.divide(both, either, out=np.ones(both.shape), where=either > 0)
    absent = np.divide(neither, with_one_missing, out=np.ones(both.shape), where=with_one_missing > 0)
    return np.minimum(present, absent)


def leaders(similarity: Float[np.ndarray, "attributes attributes"], threshold: float) -> Int[np.ndarray, "attributes"]:
    """For each attribute, in the order given, the first earlier leader that it overlaps with by at least ``threshold``;
    itself where there is none. Every follower resembles its leader itself, so that no chain joins strangers.
    """
    leader = np.arange(len(similarity))
    alike = similarity >= threshold
    free = np.ones(len(similarity), dtype=np.bool_)
    for one in range(len(similarity)):
        if free[one]:
            followers = free & alike[one]
            followers[: one + 1] = False
            leader[followers] = one
            free &= ~followers
    return leader
