"""Where the model looks instead: the map on what a detector saw of the spurious attribute, against the object."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from despur.explain.localisation import energy_inside

__all__ = ["Shares", "map_shares"]


@dataclass(frozen=True)
class Shares:
    """Where a map's energy lies; each in [0, 1], and 0 for an empty map.

    Attributes:
        on_object: share on the object.
        on_attribute: share on the attribute and not on the object: what both cover is the object's.
        object_area, attribute_area: the same shares of a map that is the same everywhere, to hold them against: a box
            around half the picture gets half of any map that looks nowhere in particular.
    """

    on_object: Float[Tensor, "*runs images classes"]
    on_attribute: Float[Tensor, "*runs images classes"]
    object_area: Float[Tensor, "images"]
    attribute_area: Float[Tensor, "images"]


def map_shares(
    maps: Float[Tensor, "*runs images classes height width"],
    objects: Bool[Tensor, "images rows columns"],
    attributes: Bool[Tensor, "images rows columns"],
) -> Shares:
    """How a map is divided between the object, the attribute beside it and the rest.

    Args:
        objects, attributes: masks or filled boxes, as the encoder sees them.
    """
    beside = attributes & ~objects
    return Shares(
        on_object=energy_inside(maps, objects),
        on_attribute=energy_inside(maps, beside),
        object_area=objects.float().mean((-2, -1)),
        attribute_area=beside.float().mean((-2, -1)),
    )
