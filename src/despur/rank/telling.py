"""Images that make a pair plain to a person who looks at it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int


def telling_images(
    by_margin: Int[np.ndarray, "images"], present: Bool[np.ndarray, "images"], helps: bool, count: int
) -> tuple[Int[np.ndarray, "with"], Int[np.ndarray, "without"]]:
    """The clearest images of a class on each side of an attribute, at most ``count`` a side, the clearest first.

    Where the attribute helps: with it, the images that the model is surest to get right; without it, those that it is
    surest to get wrong. Where it hurts, the other way round.

    Args:
        by_margin: the class's images, those with the lowest margin (the surest errors) first.
        present: for each image whether it has the attribute.
        helps: whether the discrepancy is positive.
    """
    surest_wrong_first = by_margin
    surest_right_first = by_margin[::-1]
    first_with, first_without = (
        (surest_right_first, surest_wrong_first) if helps else (surest_wrong_first, surest_right_first)
    )
    return first_with[present[first_with]][:count], first_without[~present[first_without]][:count]


def order_by_margin(margin: Float[np.ndarray, "images"]) -> Int[np.ndarray, "images"]:
    """Image indices from the lowest margin to the highest; equals in the order of their ids."""
    return np.argsort(margin, kind="stable")
