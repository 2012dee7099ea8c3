"""What every explanation map goes through: scaled to [0, 1], and summed as if it had an image's size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["scale_maps", "upsample_maps", "upsampled_sums"]


def scale_maps(maps: Float[Tensor, "*more positions"]) -> Float[Tensor, "*more positions"]:
    """Minus the minimum, over (maximum + 1e-7): METHOD section 4; a map that is the same everywhere becomes 0."""
    maps = maps - maps.amin(-1, keepdim=True)
    return maps / (maps.amax(-1, keepdim=True) + 1e-7)


def upsample_maps(
    maps: Float[Tensor, "*more height width"], size: tuple[int, int]
) -> Float[Tensor, "*more rows columns"]:
    """Maps at an image's size (rows, columns) in pixels, bilinear between pixel centres; values stay in [0, 1]."""
    stacked = maps.reshape(-1, 1, *maps.shape[-2:])
    return F.interpolate(stacked, size=size, mode="bilinear", align_corners=False).reshape(*maps.shape[:-2], *size)


def upsampled_sums(
    maps: Float[Tensor, "*runs images classes height width"], masks: Bool[Tensor, "images rows columns"]
) -> tuple[Float[Tensor, "*runs images classes"], Float[Tensor, "*runs images classes"]]:
    """Sum under the mask and whole sum of ``upsample_maps(maps, masks.shape[-2:])``, which is never made.

    Upsampling is linear: both are sums of the small map under a mask (of the object, of ones) that the upsampling's
    transpose brings to the small map's size.
    """
    vertical = _interpolation(maps.shape[-2], masks.shape[-2], maps)
    horizontal = _interpolation(maps.shape[-1], masks.shape[-1], maps)
    small_masks = vertical.mT @ masks.to(maps.dtype) @ horizontal
    small_ones = torch.outer(vertical.sum(0), horizontal.sum(0))
    return torch.einsum("...nchw,nhw->...nc", maps, small_masks), torch.einsum("...nchw,hw->...nc", maps, small_ones)


def _interpolation(small: int, large: int, like: Tensor) -> Float[Tensor, "large small"]:
    """Bilinear upsampling along one axis as a matrix: row i holds the weights of output pixel i."""
    units = torch.eye(small, dtype=like.dtype, device=like.device)
    return F.interpolate(units.unsqueeze(0), size=large, mode="linear", align_corners=False).squeeze(0).mT
