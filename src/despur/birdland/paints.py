"""Colours that things come in, and how they vary."""

from __future__ import annotations

import numpy as np

from despur.birdland.canvas import Colour

PAINTS: tuple[Colour, ...] = (
    (206, 62, 54),
    (232, 140, 48),
    (236, 206, 84),
    (88, 150, 86),
    (64, 122, 178),
    (128, 88, 160),
    (220, 130, 160),
    (232, 230, 224),
    (66, 66, 74),
    (150, 106, 72),
)
WOODS: tuple[Colour, ...] = ((134, 96, 62), (168, 128, 86), (96, 74, 58), (150, 140, 128))
STONES: tuple[Colour, ...] = ((128, 126, 124), (104, 98, 94), (160, 150, 138), (92, 86, 80))
LEAVES: tuple[Colour, ...] = ((72, 118, 58), (102, 134, 66), (58, 96, 72), (150, 128, 60), (172, 98, 50))


def shade(colour: Colour, by: float) -> Colour:
    """The colour made lighter (above 1) or darker (below 1)."""
    red, green, blue = colour
    return (red * by, green * by, blue * by)


def jitter(rng: np.random.Generator, colour: Colour, by: float = 16.0) -> Colour:
    """The colour with normal noise of standard deviation ``by`` on each channel."""
    red, green, blue = rng.normal(0.0, by, 3)
    return (colour[0] + float(red), colour[1] + float(green), colour[2] + float(blue))


def pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    """One of the colours, jittered."""
    return jitter(rng, colours[rng.integers(len(colours))])
