"""Whether a map lies on the object: the pointing game, and the share of its energy; beside IoU, and simpler."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from despur.explain.maps import upsampled_sums
from despur.metrics.overlap import ratio

__all__ = ["energy_inside", "mask_at_cells", "pointing_game"]


def energy_inside(
    maps: Float[Tensor, "*runs images classes height width"], masks: Bool[Tensor, "images rows columns"]
) -> Float[Tensor, "*runs images classes"]:
    """Share of the map, upsampled to the mask's size, that lies under the mask; in [0, 1], and 0 for an empty map.

    The energy-based pointing game of Wang et al. 2020 ("Score-CAM", section 4.3).
    """
    inside, whole = upsampled_sums(maps, masks)
    return ratio(inside, whole).clamp(0, 1)


def pointing_game(
    maps: Float[Tensor, "*runs images classes height width"], masks: Bool[Tensor, "images rows columns"]
) -> Float[Tensor, "*runs images classes"]:
    """1 where the map's highest cell has its centre on the object, 0 where beside it (Zhang et al. 2018).

    Several highest cells count by the share of them that lies on the object: a map that is 1 everywhere points at
    random. An empty map points nowhere: 0. A pixel of tolerance is not given, unlike in that paper: a cell is wider.
    """
    highest = (maps == maps.amax((-2, -1), keepdim=True)) & (maps > 0)
    on_object = highest & mask_at_cells(masks, (maps.shape[-2], maps.shape[-1])).unsqueeze(-3)
    return ratio(on_object.sum((-2, -1)).to(maps.dtype), highest.sum((-2, -1)).to(maps.dtype))


def mask_at_cells(
    masks: Bool[Tensor, "images rows columns"], grid: tuple[int, int]
) -> Bool[Tensor, "images height width"]:
    """The mask's pixel at the centre of each of the grid's cells; the lower right one where the centre is a corner."""
    rows, columns = (
        [int((cell + 0.5) * pixels / cells) for cell in range(cells)]
        for cells, pixels in zip(grid, masks.shape[-2:], strict=True)
    )
    return masks[..., rows, :][..., columns]
