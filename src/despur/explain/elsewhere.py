"""Where the model looks instead: the map on what a detector saw of the spurious attribute, against the object."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from despur.backbones.geometry import Framing
from despur.data.examples import Box
from despur.explain.aiou import box_masks
from despur.explain.maps import upsampled_sums
from despur.metrics.overlap import ratio

__all__ = ["Shares", "boxes_seen", "map_shares", "places_as_seen"]


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
    on_object, whole = upsampled_sums(maps, objects)
    on_attribute, _ = upsampled_sums(maps, beside)
    return Shares(
        on_object=ratio(on_object, whole).clamp(0, 1),
        on_attribute=ratio(on_attribute, whole).clamp(0, 1),
        object_area=objects.float().mean((-2, -1)),
        attribute_area=beside.float().mean((-2, -1)),
    )


def boxes_seen(detections: pa.Table, phrases: Collection[str]) -> Mapping[str, Sequence[Box]]:
    """Boxes of any of the phrases by image id, from a detections table; what has no place is left out.

    Args:
        detections: with the columns of :data:`despur.detect.schema.SCHEMA`.
    """
    placed = detections.filter(pc.field("phrase").isin(sorted(phrases))).drop_null()
    found: dict[str, list[Box]] = {}
    for row in placed.select(["id", "x0", "y0", "x1", "y1"]).to_pylist():
        found.setdefault(row["id"], []).append((row["x0"], row["y0"], row["x1"], row["y1"]))
    return found


def places_as_seen(boxes: Sequence[Box], size: tuple[int, int], framing: Framing) -> Bool[np.ndarray, "rows columns"]:
    """What any of the boxes covers, cropped as the photograph is.

    Args:
        size: the upright photograph's (width, height) in pixels, which the boxes are in.
    """
    if not boxes:
        return np.zeros((framing.height, framing.width), dtype=np.bool_)
    framed = np.stack([framing.box(np.asarray(box, dtype=np.float64), size) for box in boxes])
    return box_masks(torch.from_numpy(framed), (framing.height, framing.width)).any(0).numpy()
