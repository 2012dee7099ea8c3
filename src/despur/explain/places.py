"""Where things are in the encoder's input: marked objects and detected boxes, cropped as the photograph is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from despur.backbones.geometry import Framing
from despur.data.examples import Box

__all__ = ["NOWHERE", "Places", "box_masks", "boxes_seen", "object_as_seen", "places_as_seen"]


@dataclass(frozen=True)
class Places:
    """What a detector saw, by image id; boxes are in pixels of the upright photograph.

    Attributes:
        attribute: boxes of the spurious attribute.
        objects: boxes of the image's own class, read only where the dataset knows neither box nor mask.
    """

    attribute: Mapping[str, Sequence[Box]]
    objects: Mapping[str, Sequence[Box]]


NOWHERE = Places({}, {})
"""No detector was asked."""


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


def object_as_seen(
    size: tuple[int, int],
    framing: Framing,
    *,
    box: Sequence[float] | None = None,
    mask: Bool[np.ndarray, "height width"] | None = None,
) -> Bool[np.ndarray, "rows columns"]:
    """Where the object is in the encoder's input: resized and cropped as the photograph is.

    Args:
        size: the upright photograph's (width, height) in pixels.
        box: (x0, y0, x1, y1) in its pixels; read only where there is no mask.
        mask: of its pixels; one of another size (a dataset's masks are sometimes kept small) is first stretched to it.
    """
    if mask is not None:
        if mask.shape != (size[1], size[0]):
            stretched = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
            mask = np.asarray(stretched) >= 128
        return framing.mask(mask)
    corners = torch.from_numpy(framing.box(np.asarray(box, dtype=np.float64), size))
    return box_masks(corners.unsqueeze(0), (framing.height, framing.width))[0].numpy()


def places_as_seen(boxes: Sequence[Box], size: tuple[int, int], framing: Framing) -> Bool[np.ndarray, "rows columns"]:
    """What any of the boxes covers, cropped as the photograph is.

    Args:
        size: the upright photograph's (width, height) in pixels, which the boxes are in.
    """
    if not boxes:
        return np.zeros((framing.height, framing.width), dtype=np.bool_)
    framed = np.stack([framing.box(np.asarray(box, dtype=np.float64), size) for box in boxes])
    return box_masks(torch.from_numpy(framed), (framing.height, framing.width)).any(0).numpy()


def box_masks(boxes: Float[Tensor, "images 4"], size: tuple[int, int]) -> Bool[Tensor, "images height width"]:
    """Boxes (x0, y0, x1, y1) in pixels as masks of ``size`` (height, width): the pixels whose centre lies inside."""
    height, width = size
    x0, y0, x1, y1 = boxes.unsqueeze(-1).unbind(-2)
    rows = torch.arange(height, device=boxes.device) + 0.5
    columns = torch.arange(width, device=boxes.device) + 0.5
    inside_rows = (rows >= y0) & (rows < y1)
    inside_columns = (columns >= x0) & (columns < x1)
    return inside_rows.unsqueeze(-1) & inside_columns.unsqueeze(-2)
