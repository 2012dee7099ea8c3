"""How well an explanation map covers the object, of maps that are never made at the image's size; boxes as masks."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from despur.explain.maps import upsampled_sums
from despur.metrics.overlap import adjusted_iou, ratio, soft_iou

__all__ = ["adjusted_iou", "box_masks", "soft_iou", "soft_iou_upsampled"]


def soft_iou_upsampled(
    maps: Float[Tensor, "*runs images classes height width"], masks: Bool[Tensor, "images rows columns"]
) -> Float[Tensor, "*runs images classes"]:
    """``soft_iou(upsample_maps(maps, masks.shape[-2:]), masks)`` without a map of the masks' size ever being made.

    On a mask of zeros and ones the minimum is a product, and minimum + maximum is the sum of the two, so that Eq. 8
    needs nothing of the upsampled map but its sum and its sum under the mask.
    """
    minima, sums = upsampled_sums(maps, masks)
    objects = masks.to(maps.dtype).sum((-2, -1)).unsqueeze(-1)
    return ratio(minima, sums + objects - minima)


def box_masks(boxes: Float[Tensor, "images 4"], size: tuple[int, int]) -> Bool[Tensor, "images height width"]:
    """Boxes (x0, y0, x1, y1) in pixels as masks of ``size`` (height, width): the pixels whose centre lies inside."""
    height, width = size
    x0, y0, x1, y1 = boxes.unsqueeze(-1).unbind(-2)
    rows = torch.arange(height, device=boxes.device) + 0.5
    columns = torch.arange(width, device=boxes.device) + 0.5
    inside_rows = (rows >= y0) & (rows < y1)
    inside_columns = (columns >= x0) & (columns < x1)
    return inside_rows.unsqueeze(-1) & inside_columns.unsqueeze(-2)
