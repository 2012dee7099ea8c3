"""One scene: a bird on land or water among other things, or an object on a table among its companions.

The bird, its spot and the things that stand anywhere are drawn from random streams that the place does not touch: with
one seed, a bird on land and the same bird on water share every pixel of the bird.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from despur.birdland.birds import sketch_bird
from despur.birdland.canvas import SIDE, Canvas, Picture, Sketch, Stance
from despur.birdland.places import draw_light, draw_place, draw_room, draw_setting
from despur.birdland.tabletop import COMPANIONS, SUBJECTS
from despur.birdland.things import THINGS

BIRD_SIZES = (0.18, 0.34)
"""Longer side of a bird, smallest and largest, as a part of the frame's side."""

_OBJECT_SIZES = (0.22, 0.36)
_SPOTS = 8

OBJECT_CLUTTER = ("rock", "flower", "bucket", "mushroom", "ball")

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Thing:
    """An object that can be seen in a scene.

    Attributes:
        name: what it is called ("landbird", "boat").
        mask: where it is visible: at least half of the pixel is its own.
        box: the tight box (x0, y0, x1, y1) of the mask, in pixels; x1 and y1 are exclusive.
    """

    name: str
    mask: Bool[np.ndarray, "96 96"]
    box: Box


@dataclass(frozen=True)
class Scene:
    """A drawn scene.

    Attributes:
        pixels: RGB.
        things: everything visible in it; the first is the bird, or the subject.
        place: "land", "water", or "room" in the second study.
    """

    pixels: UInt8[np.ndarray, "96 96 3"]
    things: tuple[Thing, ...]
    place: str


@dataclass(frozen=True)
class _Item:
    """A sketch with its name and stance; ``box`` is its box before occlusion."""

    name: str
    sketch: Sketch
    stance: Stance
    box: Box


def draw_bird_scene(rng: np.random.Generator, *, bird: str, place: str) -> Scene:
    """A bird scene.

    Args:
        rng: its seed decides everything; it is split into streams of which only one knows the place.
        bird: "landbird" or "waterbird".
        place: "land" or "water".
    """
    layout, bird_stream, light_stream, anywhere, here = rng.spawn(5)
    setting = draw_setting(layout)
    subject = _bird(bird_stream, bird, setting.horizon)
    backdrop = draw_place(here, place, setting)
    homes = {home: [name for name, kind in THINGS.items() if kind.home == home] for home in ("ground", "sky", place)}
    behind: list[_Item] = []
    ahead: list[_Item] = []
    for name in _names(anywhere, homes["sky"], (0.5, 0.35, 0.15)):
        behind.append(_in_sky(anywhere, name, setting.horizon))
    standing = [
        _on_ground(anywhere, name, setting.horizon) for name in _names(anywhere, homes["ground"], (0.0, 0.3, 0.4, 0.3))
    ]
    for item in standing:
        if item.stance.y < subject.stance.y:
            behind.append(item)
        elif _overlap(item.box, subject.box) < 0.12:
            ahead.append(item)
    # What belongs to the place never stands before the bird, or its pixels would depend on the place.
    for name in _names(here, homes[place], (0.35, 0.5, 0.15)):
        item = _on_ground(here, name, setting.horizon)
        if item.stance.y < subject.stance.y:
            behind.append(item)
    items = [*sorted(behind, key=_depth), subject, *sorted(ahead, key=_depth)]
    return _finish(items, subject, backdrop, draw_light(light_stream), place)


def draw_object_scene(rng: np.random.Generator, *, subject: str, companions: Sequence[str]) -> Scene:
    """A scene of the second study: the subject, its companions and one or two other things on a plain table.

    Args:
        rng: its seed decides everything.
        subject: a key of ``SUBJECTS``.
        companions: keys of ``COMPANIONS``, each drawn once.
    """
    backdrop, edge = draw_room(rng)
    light = draw_light(rng)
    clutter = [OBJECT_CLUTTER[i] for i in rng.permutation(len(OBJECT_CLUTTER))[: rng.integers(0, 3)]]
    first = _on_table(rng, subject, edge, [])
    items = [first]
    for name in (*companions, *clutter):
        items.append(_on_table(rng, name, edge, items))
    # A companion may stand behind the subject, and may hide a little of it.
    items.sort(key=_depth)
    return _finish(items, first, backdrop, light, "room")


def _names(rng: np.random.Generator, known: list[str], chances: tuple[float, ...]) -> list[str]:
    """Some of the known names, each at most once; their number follows ``chances``."""
    count = int(np.searchsorted(np.cumsum(chances), rng.random() * sum(chances)))
    return [known[i] for i in rng.permutation(len(known))[:count]]


def _depth(item: _Item) -> float:
    return item.stance.y


def _bird(rng: np.random.Generator, kind: str, horizon: float) -> _Item:
    """The bird, wholly inside the frame, its feet below the horizon."""
    sketch = sketch_bird(rng, kind)
    tilt = float(rng.normal(0.0, 0.10))
    flip = bool(rng.random() < 0.5)
    left, top, right, bottom = sketch.extent(tilt)
    scale = float(rng.uniform(*BIRD_SIZES)) * SIDE / max(right - left, bottom - top)
    if flip:
        left, right = -right, -left
    lowest = SIDE - 1.5 - bottom * scale
    y = rng.uniform(max(horizon + 3.0, 1.5 - top * scale), lowest)
    x = rng.uniform(1.5 - left * scale, SIDE - 1.5 - right * scale)
    return _item(kind, sketch, Stance(float(x), float(y), scale, flip, tilt))


def _item(name: str, sketch: Sketch, stance: Stance) -> _Item:
    left, top, right, bottom = sketch.extent(stance.tilt)
    if stance.flip:
        left, right = -right, -left
    box = (
        stance.x + left * stance.scale,
        stance.y + top * stance.scale,
        stance.x + right * stance.scale,
        stance.y + bottom * stance.scale,
    )
    return _Item(name, sketch, stance, box)


def _on_ground(rng: np.random.Generator, name: str, horizon: float) -> _Item:
    kind = THINGS[name]
    scale = float(rng.uniform(*kind.sizes)) * SIDE
    x, y = rng.uniform(0.04 * SIDE, 0.96 * SIDE), rng.uniform(horizon + 2.0, SIDE * 1.02)
    return _item(
        name, kind.draw(rng), Stance(float(x), float(y), scale, bool(rng.random() < 0.5), float(rng.normal(0, 0.05)))
    )


def _in_sky(rng: np.random.Generator, name: str, horizon: float) -> _Item:
    kind = THINGS[name]
    scale = float(rng.uniform(*kind.sizes)) * SIDE
    x, y = rng.uniform(0.05 * SIDE, 0.95 * SIDE), rng.uniform(min(0.7 * scale, horizon), max(horizon, 0.9 * scale))
    return _item(
        name, kind.draw(rng), Stance(float(x), float(y), scale, bool(rng.random() < 0.5), float(rng.normal(0, 0.08)))
    )


def _on_table(rng: np.random.Generator, name: str, edge: float, others: Sequence[_Item]) -> _Item:
    """A thing at the least crowded of a few spots."""
    draw = SUBJECTS.get(name) or COMPANIONS.get(name) or THINGS[name].draw
    sketch = draw(rng)
    tilt, flip = float(rng.normal(0, 0.06)), bool(rng.random() < 0.5)
    left, top, right, bottom = sketch.extent(tilt)
    smaller = 0.75 if name in THINGS else 1.0
    scale = smaller * float(rng.uniform(*_OBJECT_SIZES)) * SIDE / max(right - left, bottom - top)
    if flip:
        left, right = -right, -left
    left, top, right, bottom = left * scale, top * scale, right * scale, bottom * scale
    columns = rng.uniform(1.0 - left, SIDE - 1.0 - right, _SPOTS).tolist()
    rows = rng.uniform(max(edge + 3.0, 1.0 - top), SIDE - 1.0 - bottom, _SPOTS).tolist()

    def crowding(spot: tuple[float, float]) -> float:
        box = (spot[0] + left, spot[1] + top, spot[0] + right, spot[1] + bottom)
        return max((max(_overlap(box, other.box), _overlap(other.box, box)) for other in others), default=0.0)

    x, y = min(zip(columns, rows, strict=True), key=crowding)
    return _item(name, sketch, Stance(x, y, scale, flip, tilt))


def _overlap(box: Box, of: Box) -> float:
    """The part of the box ``of`` that ``box`` covers."""
    width = min(box[2], of[2]) - max(box[0], of[0])
    height = min(box[3], of[3]) - max(box[1], of[1])
    return max(width, 0.0) * max(height, 0.0) / ((of[2] - of[0]) * (of[3] - of[1]))


def _finish(items: Sequence[_Item], subject: _Item, backdrop: Picture, light: Picture, place: str) -> Scene:
    canvas = Canvas()
    for item in items:
        canvas.add(item.sketch, item.stance)
    first: list[Thing] = []
    others: list[Thing] = []
    for item, mask in zip(items, canvas.masks(), strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            continue
        box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
        (first if item is subject else others).append(Thing(item.name, mask, box))
    return Scene(canvas.picture(backdrop, light), (*first, *others), place)
