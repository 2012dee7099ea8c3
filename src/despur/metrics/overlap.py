"""IoU of an explanation map with the object, and adjusted IoU (Eqs. 8 and 9, METHOD section 4)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["adjusted_iou", "ratio", "soft_iou"]


def soft_iou(
    maps: Float[Tensor, "*runs images classes height width"],
    masks: Bool[Tensor, "images height width"] | Float[Tensor, "images height width"],
) -> Float[Tensor, "*runs images classes"]:
    """Eq. 8: the sum of minima over the sum of maxima, over pixels; in [0, 1], and 0 where both are empty.

    Args:
        maps: explanation maps in [0, 1].
        masks: 1 on the object (a box or a segmentation), 0 elsewhere.
    """
    objects = masks.to(maps.dtype).unsqueeze(-3)
    return ratio(torch.minimum(maps, objects).sum((-2, -1)), torch.maximum(maps, objects).sum((-2, -1)))


def adjusted_iou(
    ious: Float[Tensor, "*runs images classes"], labels: Int[Tensor, "images"]
) -> Float[Tensor, "*runs images"]:
    """Eq. 9: the label's IoU over itself plus the highest IoU of another class; in [0, 1], and 0 where both are 0."""
    index = labels.expand(ious.shape[:-1]).unsqueeze(-1)
    own = ious.gather(-1, index).squeeze(-1)
    rival = ious.scatter(-1, index, 0.0).amax(-1)
    return ratio(own, own + rival)


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, and 0 where the whole is 0."""
    return torch.where(whole > 0, part / whole, torch.zeros_like(whole))
