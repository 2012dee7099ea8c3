"""Drawing in ink numbers: one small palette image carries every colour and every object's exact mask at once.

Shapes are drawn four times larger than the picture, each polygon in an ink of its own. An ink has a colour and belongs
to one object, so that one pass over the drawing gives the antialiased picture and another the visible masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw

SIDE = 96
"""Height and width of a scene, pixels."""

OVERSAMPLING = 4

Colour = tuple[float, float, float]
"""Red, green, blue in [0, 255]; may overshoot, the finished picture is clipped."""

Points = Float[np.ndarray, "points 2"]

Picture = Float[np.ndarray, "3 96 96"]
"""Channels first: numpy's inner loops then run along rows, not over three channels."""

_ANGLES = np.arange(20) * (2 * math.pi / 20)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


@dataclass(frozen=True)
class Stance:
    """Where a sketch stands in the scene.

    Attributes:
        x, y: where the sketch's origin lands, pixels.
        scale: pixels in one unit of the sketch.
        flip: mirrored left to right.
        tilt: turned about the origin, radians, clockwise on the screen before the flip.
    """

    x: float
    y: float
    scale: float
    flip: bool = False
    tilt: float = 0.0

    def apply(self, points: Points) -> Points:
        """The points in pixels of the scene."""
        cosine, sine = math.cos(self.tilt) * self.scale, math.sin(self.tilt) * self.scale
        mirror = -1.0 if self.flip else 1.0
        turn = np.array([[cosine * mirror, sine], [-sine * mirror, cosine]])
        return points @ turn + np.array((self.x, self.y))


class Sketch:
    """Coloured polygons in units of their own, painted in order; y points down."""

    def __init__(self) -> None:
        self._shapes: list[Points] = []
        self._colours: list[Colour] = []

    def polygon(self, points: Points | Sequence[tuple[float, float]], colour: Colour) -> None:
        """A filled polygon."""
        self._shapes.append(np.asarray(points, dtype=np.float64))
        self._colours.append(colour)

    def ellipse(self, x: float, y: float, across: float, down: float, colour: Colour, turn: float = 0.0) -> None:
        """A filled ellipse around (x, y) with half axes ``across`` and ``down``, turned by ``turn`` radians."""
        points = _CIRCLE * (across, down)
        if turn:
            cosine, sine = math.cos(turn), math.sin(turn)
            points = points @ np.array([[cosine, sine], [-sine, cosine]])
        self.polygon(points + np.array((x, y)), colour)

    def rectangle(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def line(self, x0: float, y0: float, x1: float, y1: float, width: float, colour: Colour) -> None:
        """A straight bar from (x0, y0) to (x1, y1)."""
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        across, down = -(y1 - y0) / length * width / 2, (x1 - x0) / length * width / 2
        corners = [
            (x0 + across, y0 + down),
            (x1 + across, y1 + down),
            (x1 - across, y1 - down),
            (x0 - across, y0 - down),
        ]
        self.polygon(corners, colour)

    def stroke(self, path: Points, widths: Float[np.ndarray, "points"], colour: Colour) -> None:
        """A band along a curve, with a width at each of its points."""
        along = np.gradient(path, axis=0)
        along /= np.hypot(along[:, 0], along[:, 1])[:, None] + 1e-9
        offset = np.stack([-along[:, 1], along[:, 0]], axis=1) * (widths[:, None] / 2)
        self.polygon(np.concatenate([path + offset, (path - offset)[::-1]]), colour)

    def extent(self, tilt: float = 0.0) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of everything drawn, in the sketch's units, after a turn of ``tilt``."""
        points = Stance(0.0, 0.0, 1.0, tilt=tilt).apply(np.concatenate(self._shapes))
        left, top = points.min(axis=0)
        right, bottom = points.max(axis=0)
        return float(left), float(top), float(right), float(bottom)

    def placed(self, stance: Stance) -> tuple[Points, list[int], list[Colour]]:
        """All polygons' points in pixels of the scene, one after the other; how many each has; and their colours."""
        return stance.apply(np.concatenate(self._shapes)), [len(shape) for shape in self._shapes], self._colours


Draw = Callable[[np.random.Generator], Sketch]
"""How a kind of thing is drawn: every call a new one."""


def bezier(start: tuple[float, float], *rest: tuple[float, float], count: int = 8) -> Points:
    """Points along the cubic Bezier curve through ``start`` and the three points that follow."""
    t = np.linspace(0.0, 1.0, count)[:, None]
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
    curve = np.zeros((count, 2))
    for weight, point in zip(weights, (start, *rest), strict=True):
        curve += weight * point
    return curve


class Canvas:
    """The drawing: objects are added back to front, numbered from 0 in the order in which they are added."""

    def __init__(self) -> None:
        self._image = Image.new("L", (SIDE * OVERSAMPLING, SIDE * OVERSAMPLING), 0)
        self._pen = ImageDraw.Draw(self._image)
        # Ink 0 is bare paper: no colour, no cover.
        self._inks: list[tuple[float, float, float, float]] = [(0.0, 0.0, 0.0, 0.0)]
        self._first_inks: list[int] = []
        self._reaches: list[tuple[slice, slice]] = []

    def add(self, sketch: Sketch, stance: Stance) -> None:
        """Draw an object over everything drawn so far. A drawing holds 255 polygons."""
        self._first_inks.append(len(self._inks))
        points, lengths, colours = sketch.placed(stance)
        columns, rows = (
            slice(min(max(math.floor(low), 0), SIDE), min(max(math.floor(high) + 1, 0), SIDE))
            for low, high in zip(points.min(axis=0).tolist(), points.max(axis=0).tolist(), strict=True)
        )
        self._reaches.append((rows, columns))
        # The sample that holds each corner; Pillow fills up to and including it.
        flat = np.floor(points * OVERSAMPLING).ravel().tolist()
        start = 0
        for length, colour in zip(lengths, colours, strict=True):
            self._pen.polygon(flat[start : start + 2 * length], fill=len(self._inks))
            self._inks.append((*colour, 255.0))
            start += 2 * length

    def picture(self, backdrop: Picture, light: Picture) -> UInt8[np.ndarray, "96 96 3"]:
        """The finished picture, antialiased, RGB.

        Args:
            backdrop: what is seen where nothing was drawn, [0, 255].
            light: what every pixel is multiplied by.
        """
        table = np.clip(np.array(self._inks), 0, 255).astype(np.uint8).view(np.uint32).ravel()
        painted = table[np.asarray(self._image)]
        # "CMYK" is Pillow's only mode whose four channels are averaged alike, with no meaning given to the fourth.
        wide = Image.frombuffer("CMYK", self._image.size, painted, "raw", "CMYK", 0, 1)
        small = np.asarray(wide.reduce(OVERSAMPLING)).transpose(2, 0, 1).astype(np.float32)
        bare = np.float32(1) - small[3] * np.float32(1 / 255)
        lit = (small[:3] + bare * backdrop) * light
        return np.ascontiguousarray(np.clip(lit + np.float32(0.5), 0, 255).astype(np.uint8).transpose(1, 2, 0))

    def masks(self) -> list[Bool[np.ndarray, "96 96"]]:
        """Where each object is visible: at least half of the pixel is its own, not hidden by what came later."""
        inks = np.asarray(self._image)
        bounds = [*self._first_inks, len(self._inks)]
        found: list[Bool[np.ndarray, "96 96"]] = []
        for first, end, (rows, columns) in zip(bounds[:-1], bounds[1:], self._reaches, strict=True):
            near = inks[
                rows.start * OVERSAMPLING : rows.stop * OVERSAMPLING,
                columns.start * OVERSAMPLING : columns.stop * OVERSAMPLING,
            ]
            # Unsigned subtraction wraps, so that one comparison tests both ends of the object's range of inks.
            own = ((near - np.uint8(first)) < np.uint8(end - first)).view(np.uint8)
            tall = sum(own[step::OVERSAMPLING] for step in range(1, OVERSAMPLING)) + own[::OVERSAMPLING]
            count = sum(tall[:, step::OVERSAMPLING] for step in range(1, OVERSAMPLING)) + tall[:, ::OVERSAMPLING]
            mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
            mask[rows, columns] = count >= OVERSAMPLING**2 // 2
            found.append(mask)
        return found
