"""An explanation map laid over the photograph as the model saw it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from despur.explain.maps import upsample_maps

__all__ = ["colour_table", "contours", "overlay", "with_outline"]

NO_EVIDENCE = "map is zero"
"""Stands on the picture of a map that is 0 everywhere: nothing in the image speaks for the class."""

LEVELS = (0.25, 0.5, 0.75)
"""Heights of the map that contour lines are drawn at."""

VIRIDIS = "440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725"
"""Evenly spaced colours of Smith and van der Walt's perceptually uniform map (matplotlib, CC0)."""


def colour_table() -> UInt8[np.ndarray, "256 3"]:
    """256 RGB colours from low to high, interpolated between viridis's published ones; lightness rises evenly."""
    points = np.array([list(bytes.fromhex(colour)) for colour in VIRIDIS.split()], dtype=np.float64)
    places = np.linspace(0, len(points) - 1, 256)
    channels = [np.interp(places, np.arange(len(points)), points[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def overlay(
    image: Image.Image,
    saliency: Float[Tensor, "height width"],
    *,
    alpha: float = 0.5,
    outline: Bool[np.ndarray, "rows columns"] | None = None,
) -> Image.Image:
    """The photograph with the map's colours blended over it; a map that is 0 everywhere says so on the picture.

    Args:
        image: the photograph as the model saw it (``backbone.framing.image(photograph)``).
        saliency: map in [0, 1] of any size; it is brought to the picture's, bilinear.
        alpha: weight of the colours, in [0, 1]; the rest is the photograph.
        outline: the object's mask in the picture's size, whose edge is drawn in white with a black rim.
    """
    size = (image.height, image.width)
    values = upsample_maps(saliency.detach().float().cpu(), size)
    colours = torch.from_numpy(colour_table())[(values.clamp(0, 1) * 255).round().long()].numpy()
    photograph = np.asarray(image.convert("RGB"), dtype=np.float32)
    blended = np.rint((1 - alpha) * photograph + alpha * colours).astype(np.uint8)
    return _finished(Image.fromarray(blended), values.numpy(), outline)


def contours(
    image: Image.Image,
    saliency: Float[Tensor, "height width"],
    *,
    levels: Sequence[float] = LEVELS,
    outline: Bool[np.ndarray, "rows columns"] | None = None,
) -> Image.Image:
    """The photograph with lines where the map crosses the levels, each in its level's colour with a dark rim.

    A map that is 0 everywhere has no line and says so. The photograph keeps its own colours, which an :func:`overlay`
    covers. A line lies on the higher side; where the map is above a level up to the picture's border, the border closes
    it.
    """
    values = upsample_maps(saliency.detach().float().cpu(), (image.height, image.width)).numpy()
    table = colour_table()
    drawn = np.array(image.convert("RGB"))
    for level in levels:
        above = values >= level
        line = _edge(above)
        drawn[_grown(line) & ~above] = 0
        drawn[line] = table[round(level * 255)]
    return _finished(Image.fromarray(drawn), values, outline)


def _finished(
    laid: Image.Image, values: Float[np.ndarray, "rows columns"], outline: Bool[np.ndarray, "rows columns"] | None
) -> Image.Image:
    """The picture with what a reader needs beside the map: that it is empty, and where the object is."""
    if not values.any():
        _say_nothing_is_seen(laid)
    return laid if outline is None else with_outline(laid, outline)


def _say_nothing_is_seen(laid: Image.Image) -> None:
    """Write along the lower edge what would else be taken for a map that is low everywhere, or for no map."""
    height = max(8, laid.width // 8)
    pen, font = ImageDraw.Draw(laid), ImageFont.load_default(height)
    pen.rectangle((0, laid.height - height - 4, laid.width, laid.height), fill="black")
    pen.text((laid.width / 2, laid.height - height / 2 - 2), NO_EVIDENCE, "white", font, anchor="mm")


def with_outline(image: Image.Image, mask: Bool[np.ndarray, "rows columns"]) -> Image.Image:
    """The picture with the mask's edge in white and a black rim around it."""
    drawn = np.array(image.convert("RGB"))
    drawn[_grown(mask) & ~mask] = 0
    drawn[_edge(mask)] = 255
    return Image.fromarray(drawn)


def _edge(mask: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """The mask's outermost pixels.

    Past the picture's border nothing is object: an object that is cut off is closed along the border.
    """
    return mask & _grown(~np.pad(mask, 1))[1:-1, 1:-1]


def _grown(mask: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """The mask and its four-neighbours."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown
