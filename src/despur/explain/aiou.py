"""IoU of explanation maps that are never made at the image's size with the object (Eq. 8)."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from despur.explain.maps import upsampled_sums
from despur.metrics.overlap import ratio

__all__ = ["soft_iou_upsampled"]


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
