"""What bird scenes are strewn with: sketches about one unit tall that stand on their origin, and where each belongs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from despur.birdland.canvas import Draw, Sketch, bezier
from despur.birdland.paints import LEAVES, PAINTS, STONES, WOODS, jitter, pick, shade


def _tree(rng: np.random.Generator) -> Sketch:
    sketch, leaf = Sketch(), pick(rng, LEAVES)
    sketch.polygon([(-0.06, 0), (-0.04, -0.5), (0.04, -0.5), (0.06, 0)], pick(rng, WOODS))
    if rng.random() < 0.4:
        for level, width in ((-0.25, 0.30), (-0.45, 0.24), (-0.65, 0.16)):
            sketch.polygon([(-width, level), (0, level - 0.36), (width, level)], shade(leaf, 0.85 - level * 0.3))
        return sketch
    for x, y, size, tone in (
        (-0.15, -0.52, 0.19, 0.85),
        (0.16, -0.55, 0.18, 0.9),
        (0.02, -0.75, 0.24, 1.0),
        (-0.05, -0.8, 0.13, 1.15),
    ):
        sketch.ellipse(x, y, size, size, shade(leaf, tone))
    return sketch


def _mushroom(rng: np.random.Generator) -> Sketch:
    sketch, cap = Sketch(), pick(rng, PAINTS)
    sketch.polygon([(-0.13, 0), (-0.09, -0.55), (0.09, -0.55), (0.13, 0)], (226, 214, 192))
    angles = np.linspace(math.pi, 2 * math.pi, 12)
    sketch.polygon(np.stack([0.45 * np.cos(angles), -0.48 + 0.5 * np.sin(angles)], axis=1), cap)
    for x, y in ((-0.2, -0.62), (0.05, -0.8), (0.23, -0.6)):
        sketch.ellipse(x, y, 0.07, 0.06, (244, 238, 226))
    return sketch


def _fence(rng: np.random.Generator) -> Sketch:
    sketch, wood = Sketch(), pick(rng, (*WOODS, (232, 228, 220)))
    half = rng.uniform(0.6, 1.1)
    sketch.rectangle(-half, -0.62, half, -0.5, shade(wood, 0.8))
    sketch.rectangle(-half, -0.3, half, -0.18, shade(wood, 0.8))
    for x in np.arange(-half + 0.08, half, 0.3):
        sketch.polygon([(x - 0.07, 0), (x - 0.07, -0.82), (x, -0.95), (x + 0.07, -0.82), (x + 0.07, 0)], wood)
    return sketch


def _boat(rng: np.random.Generator) -> Sketch:
    sketch, hull, sail = Sketch(), pick(rng, PAINTS), pick(rng, ((238, 234, 224), (226, 200, 160), (200, 80, 70)))
    sketch.line(0, -0.2, 0, -1.0, 0.045, (90, 76, 64))
    sketch.polygon([(0.04, -0.96), (0.04, -0.28), (0.42, -0.28)], sail)
    sketch.polygon([(-0.04, -0.85), (-0.04, -0.28), (-0.3, -0.28)], shade(sail, 0.88))
    sketch.polygon([(-0.5, -0.22), (0.55, -0.22), (0.38, 0), (-0.36, 0)], hull)
    sketch.polygon([(-0.5, -0.22), (0.55, -0.22), (0.52, -0.17), (-0.46, -0.17)], shade(hull, 1.3))
    return sketch


def _buoy(rng: np.random.Generator) -> Sketch:
    sketch, paint = Sketch(), pick(rng, PAINTS)
    sketch.ellipse(0, -0.14, 0.36, 0.15, shade(paint, 0.7))
    sketch.polygon([(-0.26, -0.18), (-0.09, -0.8), (0.09, -0.8), (0.26, -0.18)], paint)
    sketch.polygon([(-0.2, -0.38), (-0.14, -0.56), (0.14, -0.56), (0.2, -0.38)], (240, 238, 232))
    sketch.ellipse(0, -0.88, 0.09, 0.12, (244, 220, 120))
    return sketch


def _reed(rng: np.random.Generator) -> Sketch:
    sketch, leaf = Sketch(), pick(rng, LEAVES)
    for _ in range(int(rng.integers(3, 6))):
        root, lean, tall = rng.uniform(-0.22, 0.22), rng.uniform(-0.2, 0.2), rng.uniform(0.65, 1.0)
        path = bezier((root, 0), (root, -tall * 0.4), (root + lean * 0.4, -tall * 0.7), (root + lean, -tall), count=5)
        sketch.stroke(path, np.linspace(0.06, 0.03, 5), leaf)
        sketch.ellipse(root + lean * 0.85, -tall * 0.88, 0.05, 0.12, (98, 66, 44))
    return sketch


def _rock(rng: np.random.Generator) -> Sketch:
    """A boulder; half of them with a lump on one side, like a bird asleep."""
    sketch, stone = Sketch(), pick(rng, STONES)
    angles = np.linspace(0, 2 * math.pi, 11)[:-1]
    radius = rng.uniform(0.85, 1.12, 10)
    body = np.stack([0.62 * radius * np.cos(angles), -0.36 + 0.38 * radius * np.sin(angles)], axis=1)
    body[:, 1] = np.minimum(body[:, 1], 0.0)
    if rng.random() < 0.5:
        sketch.ellipse(0.42, -0.72, 0.22, 0.24, shade(stone, 0.95), turn=0.3)
    sketch.polygon(body, stone)
    sketch.ellipse(-0.1, -0.5, 0.3, 0.14, shade(stone, 1.2))
    return sketch


def _driftwood(rng: np.random.Generator) -> Sketch:
    """A log with a bent bough: at a distance, a waterbird's body and neck."""
    sketch, wood = Sketch(), pick(rng, WOODS)
    sketch.ellipse(0, -0.17, 0.7, 0.18, wood, turn=rng.uniform(-0.1, 0.1))
    tall = rng.uniform(0.5, 0.95)
    path = bezier((0.4, -0.2), (0.62, -tall * 0.5), (0.3, -tall * 0.7), (0.55, -tall), count=6)
    sketch.stroke(path, np.linspace(0.17, 0.07, 6), shade(wood, 0.9))
    sketch.ellipse(-0.62, -0.16, 0.08, 0.14, shade(wood, 1.35))
    return sketch


def _stump(rng: np.random.Generator) -> Sketch:
    """A stump with a twig to one side: a landbird's round body and bill."""
    sketch, wood = Sketch(), pick(rng, WOODS)
    sketch.polygon([(-0.46, 0), (-0.32, -0.25), (-0.3, -0.75), (0.3, -0.75), (0.32, -0.25), (0.46, 0)], wood)
    sketch.line(0.2, -0.5, 0.6, -0.68, 0.1, shade(wood, 0.85))
    sketch.ellipse(0, -0.75, 0.3, 0.12, shade(wood, 1.4))
    sketch.ellipse(0, -0.75, 0.14, 0.05, wood)
    return sketch


def _umbrella(rng: np.random.Generator) -> Sketch:
    sketch, paint, other = Sketch(), pick(rng, PAINTS), pick(rng, PAINTS)
    sketch.line(0, 0, 0, -0.95, 0.05, (110, 100, 92))
    angles = np.linspace(math.pi, 2 * math.pi, 10)
    rim = np.stack([0.6 * np.cos(angles), -0.55 + 0.42 * np.sin(angles)], axis=1)
    sketch.polygon(rim, paint)
    sketch.polygon([(-0.38, -0.55), (-0.2, -0.9), (0, -0.97), (-0.1, -0.55)], other)
    sketch.polygon([(0.16, -0.55), (0.08, -0.95), (0.22, -0.9), (0.42, -0.55)], other)
    return sketch


def _flower(rng: np.random.Generator) -> Sketch:
    sketch, petal, leaf = Sketch(), pick(rng, PAINTS), pick(rng, LEAVES)
    sketch.line(0, 0, 0.02, -0.7, 0.06, leaf)
    sketch.ellipse(0.14, -0.25, 0.15, 0.06, leaf, turn=-0.6)
    for turn in np.arange(5) * (2 * math.pi / 5) + rng.uniform(0, 1):
        sketch.ellipse(0.17 * math.cos(turn), -0.74 + 0.17 * math.sin(turn), 0.15, 0.11, petal, turn=float(turn))
    sketch.ellipse(0.0, -0.74, 0.09, 0.09, (240, 200, 80))
    return sketch


def _lamp(rng: np.random.Generator) -> Sketch:
    sketch, metal = Sketch(), pick(rng, ((60, 62, 66), (92, 96, 90), (120, 100, 70)))
    sketch.line(0, 0, 0, -0.72, 0.055, metal)
    sketch.rectangle(-0.1, -0.06, 0.1, 0, metal)
    sketch.polygon([(-0.09, -0.7), (-0.14, -0.92), (0.14, -0.92), (0.09, -0.7)], (250, 226, 150))
    sketch.polygon([(-0.18, -0.9), (0, -1.02), (0.18, -0.9)], metal)
    return sketch


def _bucket(rng: np.random.Generator) -> Sketch:
    sketch, paint = Sketch(), pick(rng, PAINTS)
    angles = np.linspace(math.pi, 2 * math.pi, 9)
    handle = np.stack([0.36 * np.cos(angles), -0.62 + 0.36 * np.sin(angles)], axis=1)
    sketch.stroke(handle, np.full(9, 0.05), (90, 90, 94))
    sketch.polygon([(-0.4, -0.64), (0.4, -0.64), (0.28, 0), (-0.28, 0)], paint)
    sketch.ellipse(0, -0.64, 0.4, 0.1, shade(paint, 0.6))
    sketch.polygon([(-0.37, -0.46), (0.37, -0.46), (0.35, -0.36), (-0.35, -0.36)], shade(paint, 1.25))
    return sketch


def _bench(rng: np.random.Generator) -> Sketch:
    sketch, wood = Sketch(), pick(rng, (*WOODS, (90, 120, 96)))
    for x in (-0.62, 0.55):
        sketch.rectangle(x, -0.42, x + 0.08, 0, shade(wood, 0.6))
    for top in (-0.95, -0.76):
        sketch.rectangle(-0.75, top, 0.75, top + 0.13, wood)
    sketch.polygon([(-0.75, -0.48), (0.75, -0.48), (0.82, -0.36), (-0.82, -0.36)], shade(wood, 1.2))
    return sketch


def _sun(rng: np.random.Generator) -> Sketch:
    sketch, gold = Sketch(), jitter(rng, (250, 214, 110), 10)
    turn = rng.uniform(0, 1)
    for angle in np.arange(8) * (math.pi / 4) + turn:
        x, y = math.cos(angle), math.sin(angle)
        sketch.line(0.34 * x, -0.5 + 0.34 * y, 0.5 * x, -0.5 + 0.5 * y, 0.07, gold)
    sketch.ellipse(0, -0.5, 0.3, 0.3, gold)
    return sketch


def _cloud(rng: np.random.Generator) -> Sketch:
    sketch, white = Sketch(), jitter(rng, (240, 242, 246), 6)
    for x, y, size in ((-0.5, -0.22, 0.22), (0.48, -0.24, 0.24), (-0.15, -0.42, 0.32), (0.22, -0.4, 0.28)):
        sketch.ellipse(x, y, size * 1.1, size, shade(white, rng.uniform(0.95, 1.03)))
    sketch.rectangle(-0.55, -0.28, 0.55, 0, shade(white, 0.93))
    return sketch


def _kite(rng: np.random.Generator) -> Sketch:
    sketch, paint, other = Sketch(), pick(rng, PAINTS), pick(rng, PAINTS)
    tail = bezier((0, -0.4), (0.2, -0.3), (-0.2, -0.15), (0.1, 0), count=6)
    sketch.stroke(tail, np.full(6, 0.035), (230, 226, 214))
    sketch.polygon([(0, -1), (0.3, -0.72), (0, -0.38), (-0.3, -0.72)], paint)
    sketch.polygon([(0, -1), (0.3, -0.72), (0, -0.72)], other)
    sketch.polygon([(0, -0.38), (-0.3, -0.72), (0, -0.72)], other)
    return sketch


def _balloon(rng: np.random.Generator) -> Sketch:
    sketch, paint, other = Sketch(), pick(rng, PAINTS), pick(rng, PAINTS)
    for x in (-0.08, 0.08):
        sketch.line(x * 2, -0.4, x, -0.16, 0.03, (90, 80, 70))
    sketch.polygon([(-0.3, -0.5), (0.3, -0.5), (0.1, -0.28), (-0.1, -0.28)], paint)
    sketch.ellipse(0, -0.64, 0.36, 0.36, paint)
    sketch.ellipse(0, -0.64, 0.15, 0.36, other)
    sketch.rectangle(-0.1, -0.17, 0.1, 0, (140, 104, 66))
    return sketch


def _ball(rng: np.random.Generator) -> Sketch:
    sketch, paint, other = Sketch(), pick(rng, PAINTS), pick(rng, PAINTS)
    sketch.ellipse(0, -0.5, 0.5, 0.5, paint)
    turn = rng.uniform(0, math.pi)
    sketch.ellipse(0, -0.5, 0.49, 0.17, other, turn=turn)
    return sketch


@dataclass(frozen=True)
class Kind:
    """A kind of thing and where it belongs.

    Attributes:
        draw: a sketch of one, from a generator.
        home: "land" or "water" for what is seen in one place only, "ground" for what stands anywhere, "sky".
        sizes: its height, smallest and largest, as a part of the frame's side.
    """

    draw: Draw
    home: str
    sizes: tuple[float, float]


THINGS: dict[str, Kind] = {
    "tree": Kind(_tree, "land", (0.3, 0.6)),
    "mushroom": Kind(_mushroom, "land", (0.1, 0.2)),
    "fence": Kind(_fence, "land", (0.12, 0.22)),
    "boat": Kind(_boat, "water", (0.16, 0.36)),
    "buoy": Kind(_buoy, "water", (0.1, 0.22)),
    "reed": Kind(_reed, "ground", (0.2, 0.42)),
    "rock": Kind(_rock, "ground", (0.1, 0.24)),
    "driftwood": Kind(_driftwood, "ground", (0.12, 0.24)),
    "stump": Kind(_stump, "ground", (0.12, 0.24)),
    "umbrella": Kind(_umbrella, "ground", (0.18, 0.34)),
    "flower": Kind(_flower, "ground", (0.14, 0.28)),
    "lamp": Kind(_lamp, "ground", (0.24, 0.44)),
    "bucket": Kind(_bucket, "ground", (0.1, 0.2)),
    "bench": Kind(_bench, "ground", (0.12, 0.22)),
    "ball": Kind(_ball, "ground", (0.08, 0.16)),
    "sun": Kind(_sun, "sky", (0.12, 0.24)),
    "cloud": Kind(_cloud, "sky", (0.08, 0.16)),
    "kite": Kind(_kite, "sky", (0.16, 0.28)),
    "balloon": Kind(_balloon, "sky", (0.16, 0.28)),
}
"""What bird scenes are strewn with."""
