"""From a detector's raw boxes to pixels of the photograph."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def to_corners(boxes: Float[Tensor, "boxes 4"]) -> Float[Tensor, "boxes 4"]:
    """(centre x, centre y, width, height) to (x0, y0, x1, y1), in the same unit."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def inside(
    boxes: Float[Tensor, "boxes 4"], size: Float[Tensor, "boxes 2"]
) -> tuple[Float[Tensor, "boxes 4"], Bool[Tensor, "boxes"]]:
    """Boxes cut at the border of their images, and which of them have any area left.

    Args:
        boxes: x0, y0, x1, y1 in pixels.
        size: (width, height) of each box's image in pixels.
    """
    cut = boxes.clamp(min=0.0).minimum(size.repeat(1, 2))
    return cut, (cut[:, 2] > cut[:, 0]) & (cut[:, 3] > cut[:, 1])
