"""Deletion and insertion (Petsiuk, Das, Saenko 2018, "RISE"): does the score hang on what the map says it hangs on?"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from despur.explain.maps import upsample_maps

__all__ = ["STEPS", "Score", "area_under", "blurred", "deletion_curve", "insertion_curve", "pixel_ranks"]

Score = Callable[[Float[Tensor, "pictures 3 rows columns"]], Float[Tensor, "pictures"]]
"""What the model thinks of each picture's class: a probability. Pictures come step after step, images within."""

STEPS = 10
"""Parts that a picture turns in, a tenth each: a curve has one point more. RISE takes as many as a picture has rows."""

BLUR_CELLS = 4
"""Insertion begins with a picture averaged over this many cells a side: colours and light, and no shape."""


def pixel_ranks(saliency: Float[Tensor, "images rows columns"]) -> Int[Tensor, "images rows columns"]:
    """Each pixel's place from the most salient (0) to the least; among equals, the first in reading order."""
    flat = saliency.flatten(1)
    order = flat.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(flat.shape[-1], device=flat.device).expand_as(flat)
    return torch.empty_like(order).scatter_(-1, order, places).reshape(saliency.shape)


def deletion_curve(
    score: Score,
    pixels: Float[Tensor, "images 3 rows columns"],
    maps: Float[Tensor, "images height width"],
    *,
    steps: int = STEPS,
) -> Float[Tensor, "images points"]:
    """Score while the most salient pixels are taken away, 1/steps of the picture at a time: a good map's falls at once.

    Args:
        score: of pictures [(steps + 1) * images, 3, rows, columns]: it may cut them into batches as it likes.
        pixels: preprocessed images. What is taken away becomes 0: the mean colour, after normalisation.
        maps: one map an image, of any size.

    Returns:
        steps + 1 values an image: nothing deleted first, everything last.
    """
    return _replaced(score, pixels, torch.zeros_like(pixels), maps, steps)


def insertion_curve(
    score: Score,
    pixels: Float[Tensor, "images 3 rows columns"],
    maps: Float[Tensor, "images height width"],
    *,
    steps: int = STEPS,
) -> Float[Tensor, "images points"]:
    """Score while the most salient pixels are put into a blurred picture: a good map's rises at once.

    Arguments and result as for :func:`deletion_curve`: nothing inserted first, everything last.
    """
    return _replaced(score, blurred(pixels), pixels, maps, steps)


def blurred(pixels: Float[Tensor, "images 3 rows columns"]) -> Float[Tensor, "images 3 rows columns"]:
    """Averages over a coarse grid, interpolated."""
    size = (pixels.shape[-2], pixels.shape[-1])
    return F.interpolate(F.adaptive_avg_pool2d(pixels, BLUR_CELLS), size=size, mode="bilinear", align_corners=False)


def area_under(curves: Float[Tensor, "*more points"]) -> Float[Tensor, "*more"]:
    """Area under evenly spaced points from 0 to 1, by trapezia: the mean score on the way."""
    return (curves[..., 1:] + curves[..., :-1]).mean(-1) / 2


def _replaced(
    score: Score, first: Tensor, last: Tensor, maps: Float[Tensor, "images height width"], steps: int
) -> Float[Tensor, "images points"]:
    """Score of pictures that turn from ``first`` into ``last``, the most salient pixels before the others."""
    rows, columns = first.shape[-2:]
    ranks = pixel_ranks(upsample_maps(maps, (rows, columns)))
    counts = torch.linspace(0, rows * columns, steps + 1, device=first.device).round()
    turned = (ranks < counts[:, None, None, None]).unsqueeze(2)
    pictures = torch.where(turned, last, first)
    return score(pictures.flatten(0, 1)).reshape(steps + 1, len(first)).T
