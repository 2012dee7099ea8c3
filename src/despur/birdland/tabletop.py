"""The second study's things: six subjects in three pairs of look-alikes, and the companions that may stand beside them.

Sketches are about one unit tall and stand on their origin.
"""

from __future__ import annotations

import math

import numpy as np

from despur.birdland.birds import affinity
from despur.birdland.canvas import Colour, Draw, Sketch, bezier
from despur.birdland.paints import PAINTS, WOODS, pick, shade


def _cup(rng: np.random.Generator) -> Sketch:
    sketch, paint = Sketch(), pick(rng, PAINTS)
    _ring(sketch, 0.36, -0.45, 0.2, 0.07, paint)
    sketch.polygon([(-0.4, -0.85), (0.4, -0.85), (0.3, 0), (-0.3, 0)], paint)
    sketch.ellipse(0, -0.85, 0.4, 0.12, shade(paint, 0.55))
    return sketch


def _drum(rng: np.random.Generator) -> Sketch:
    sketch, paint = Sketch(), pick(rng, PAINTS)
    sketch.ellipse(0, -0.14, 0.52, 0.14, paint)
    sketch.rectangle(-0.52, -0.7, 0.52, -0.14, paint)
    for x in (-0.4, -0.13, 0.13, 0.4):
        sketch.line(x - 0.1, -0.68, x + 0.1, -0.08, 0.04, (240, 226, 170))
    sketch.ellipse(0, -0.72, 0.54, 0.16, (240, 234, 220))
    sketch.line(-0.4, -1.0, 0.1, -0.72, 0.05, (150, 110, 70))
    return sketch


def _cat(rng: np.random.Generator) -> Sketch:
    sketch, fur = Sketch(), pick(rng, ((60, 58, 60), (214, 140, 70), (150, 146, 142), (232, 226, 214), (120, 92, 70)))
    tail = bezier((0.25, -0.1), (0.6, 0.0), (0.6, -0.35), (0.45, -0.5), count=6)
    sketch.stroke(tail, np.full(6, 0.09), shade(fur, 0.85))
    sketch.ellipse(0, -0.3, 0.3, 0.32, fur)
    for x in (-1, 1):
        sketch.polygon([(x * 0.22 - 0.05, -0.78), (x * 0.2 + 0.04 * x, -1.02), (x * 0.03, -0.88)], fur)
    sketch.ellipse(-0.02, -0.74, 0.23, 0.2, fur)
    for x in (-0.11, 0.08):
        sketch.ellipse(x, -0.76, 0.035, 0.045, (70, 160, 80))
    return sketch


def _book(rng: np.random.Generator) -> Sketch:
    sketch, paint = Sketch(), pick(rng, PAINTS)
    sketch.polygon([(-0.55, -0.62), (0, -0.5), (0, 0), (-0.55, -0.12)], paint)
    sketch.polygon([(0.55, -0.62), (0, -0.5), (0, 0), (0.55, -0.12)], paint)
    sketch.polygon([(-0.5, -0.66), (0, -0.54), (0, -0.08), (-0.5, -0.2)], (244, 240, 228))
    sketch.polygon([(0.5, -0.66), (0, -0.54), (0, -0.08), (0.5, -0.2)], (228, 222, 208))
    return sketch


def _hat(rng: np.random.Generator) -> Sketch:
    sketch, felt = Sketch(), pick(rng, PAINTS)
    sketch.ellipse(0, -0.12, 0.62, 0.13, shade(felt, 0.85))
    sketch.polygon([(-0.34, -0.14), (-0.3, -0.72), (0.3, -0.72), (0.34, -0.14)], felt)
    sketch.polygon([(-0.34, -0.16), (-0.33, -0.32), (0.33, -0.32), (0.34, -0.16)], pick(rng, PAINTS))
    return sketch


def _candle(rng: np.random.Generator) -> Sketch:
    sketch, wax = Sketch(), pick(rng, ((240, 234, 214), (206, 80, 70), (120, 150, 180)))
    sketch.ellipse(0, -0.06, 0.3, 0.08, (150, 130, 90))
    sketch.rectangle(-0.13, -0.68, 0.13, -0.06, wax)
    sketch.polygon([(-0.08, -0.76), (0, -1.02), (0.08, -0.76), (0, -0.7)], (252, 196, 70))
    return sketch


def _ring(sketch: Sketch, x: float, y: float, radius: float, width: float, colour: Colour) -> None:
    angles = np.linspace(-math.pi / 2, math.pi / 2, 8)
    path = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)
    sketch.stroke(path, np.full(8, width), colour)


def _vessel(rng: np.random.Generator, sign: float) -> Sketch:
    """A teapot (round, low, long spout, lid with a knob) or a jug (tall, straight, open, a beak)."""
    lean = 0.5 + 0.5 * affinity(rng, sign)
    sketch, glaze = Sketch(), pick(rng, PAINTS)
    wide, tall = 0.46 - 0.16 * lean, 0.30 + 0.15 * lean
    _ring(sketch, -wide * 0.85, -tall, -0.24, 0.085, shade(glaze, 0.8))
    reach = 0.42 - 0.24 * lean
    low = -tall * (0.7 + 0.9 * lean)
    spout = [(wide * 0.8, low + 0.12), (wide + reach, -tall * 1.9), (wide + reach - 0.12, -tall * 2.0)]
    sketch.polygon([*spout, (wide * 0.7, low - 0.12)], shade(glaze, 0.92))
    sketch.ellipse(0, -tall, wide, tall, glaze)
    straight = wide * (0.45 + 0.35 * lean)
    sketch.polygon(
        [(-straight, -tall * 1.95), (straight, -tall * 1.95), (wide * 0.95, -tall), (-wide * 0.95, -tall)], glaze
    )
    sketch.ellipse(-0.1, -tall * 1.05, wide * 0.28, tall * 0.45, shade(glaze, 1.2))
    sketch.ellipse(0, -tall * 1.95, straight, 0.06, shade(glaze, 0.65))
    knob = 0.12 * (1 - lean)
    if knob > 0.02:
        sketch.ellipse(0, -tall * 1.95 - 0.03 - knob / 2, 0.05 + knob / 3, 0.02 + knob / 2, shade(glaze, 0.8))
    return sketch


def _strings(rng: np.random.Generator, sign: float) -> Sketch:
    """A guitar (round hole, soft waist, long neck) or a violin (deep waist, dark slits, a bow)."""
    lean = 0.5 + 0.5 * affinity(rng, sign)
    sketch, wood = Sketch(), pick(rng, (*WOODS, (186, 96, 50), (206, 160, 90)))
    neck = 0.98 - 0.06 * lean
    sketch.line(0, -0.5, 0, -neck, 0.08, (74, 58, 48))
    sketch.rectangle(-0.07, -1.02, 0.07, -neck + 0.04, (60, 48, 42))
    waist = 0.19 - 0.11 * lean
    sketch.ellipse(0, -0.2, 0.28 - 0.03 * lean, 0.21, wood)
    sketch.ellipse(0, -0.5, 0.22 - 0.01 * lean, 0.15, wood)
    sketch.rectangle(-waist, -0.5, waist, -0.2, wood)
    hole = 0.10 - 0.09 * lean
    if hole > 0.015:
        sketch.ellipse(0, -0.38, hole, hole, (40, 32, 30))
    slit = 0.13 * lean
    if slit > 0.015:
        for x in (-0.12, 0.12):
            sketch.line(x, -0.34 - slit / 2, x * 1.2, -0.34 + slit / 2, 0.045, (40, 32, 30))
    sketch.rectangle(-0.09, -0.16, 0.09, -0.12, (60, 48, 42))
    return sketch


def _seat(rng: np.random.Generator, sign: float) -> Sketch:
    """A chair (a back) or a stool (none, a rounder seat and splayed legs)."""
    lean = 0.5 + 0.5 * affinity(rng, sign)
    sketch, wood = Sketch(), pick(rng, (*WOODS, *PAINTS[:5]))
    back, splay = max(0.55 * (1 - lean), 0.0), 0.12 * lean
    seat = -0.48 - 0.1 * lean
    for x in (-0.24, 0.24):
        sketch.line(x, seat, x * (1 + splay * 3), 0, 0.075, shade(wood, 0.75))
        sketch.line(x * 0.55, seat, x * 0.6, -0.06, 0.06, shade(wood, 0.6))
    sketch.line(-0.26, seat * 0.4, 0.26, seat * 0.4, 0.05, shade(wood, 0.7))
    if back > 0.04:
        for x in (-0.25, 0.25):
            sketch.line(x, seat, x, seat - back, 0.07, shade(wood, 0.9))
        sketch.rectangle(-0.28, seat - back, 0.28, seat - back * 0.55, wood)
    sketch.polygon(
        [(-0.3, seat - 0.05), (0.3, seat - 0.05), (0.36, seat + 0.05), (-0.36, seat + 0.05)], shade(wood, 1.15)
    )
    return sketch


COMPANIONS: dict[str, Draw] = {
    "cup": _cup,
    "drum": _drum,
    "cat": _cat,
    "book": _book,
    "hat": _hat,
    "candle": _candle,
}
"""What may stand beside a subject of the second study."""

SUBJECTS: dict[str, Draw] = {
    "teapot": lambda rng: _vessel(rng, -1.0),
    "jug": lambda rng: _vessel(rng, 1.0),
    "guitar": lambda rng: _strings(rng, -1.0),
    "violin": lambda rng: _strings(rng, 1.0),
    "chair": lambda rng: _seat(rng, -1.0),
    "stool": lambda rng: _seat(rng, 1.0),
}
"""The classes of the second study, look-alikes side by side."""
