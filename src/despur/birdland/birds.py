"""Two kinds of bird, told apart by body, neck, bill, tail and feet, and by nothing else.

A bird's kind shifts one hidden number, its *affinity*: near -1 for most landbirds, near +1 for most waterbirds, normal
with standard deviation ``SPREAD``. Every cue of shape follows the affinity with some noise of its own; colours, size
and pose do not know the kind. Since a picture shows the affinity at best, no classifier, however good, is right about
both kinds more often than Φ(1 / SPREAD), 96.8%.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from despur.birdland.canvas import Colour, Sketch, bezier
from despur.birdland.paints import pick, shade

LANDBIRD, WATERBIRD = "landbird", "waterbird"

BIRDS = (LANDBIRD, WATERBIRD)
"""Class names; a label is an index into them."""

SPREAD = 0.54
"""Standard deviation of the affinity within a kind; the kinds' means are 2 apart."""

_CUE_NOISE = 0.12

_COATS: tuple[Colour, ...] = (
    (238, 236, 230),
    (196, 192, 186),
    (128, 130, 134),
    (52, 50, 54),
    (120, 82, 52),
    (176, 132, 84),
    (168, 78, 50),
    (214, 178, 70),
    (84, 116, 168),
    (92, 128, 84),
    (190, 60, 56),
)
_BILLS: tuple[Colour, ...] = ((236, 150, 40), (240, 200, 70), (60, 56, 54), (140, 120, 100), (210, 90, 60))


def affinity(rng: np.random.Generator, sign: float) -> float:
    """How far something leans to the second of two look-alike kinds: about -1 or +1 by ``sign``, overlapping."""
    return float(np.clip(rng.normal(sign, SPREAD), -1.9, 1.9))


@dataclass(frozen=True)
class BirdShape:
    """The cues that tell the kinds apart; lengths in units of about half a bird.

    Each is listed as (typical landbird, typical waterbird) in ``_CUES``.
    """

    body_length: float
    body_depth: float
    uprightness: float
    neck: float
    bend: float
    head: float
    bill_length: float
    bill_depth: float
    bill_bluntness: float
    tail: float
    tail_lift: float
    web: float
    stance: float


_CUES: dict[str, tuple[float, float]] = {
    "body_length": (0.50, 0.66),
    "body_depth": (0.40, 0.27),
    "uprightness": (0.42, 0.02),
    "neck": (0.10, 0.78),
    "bend": (0.0, 0.30),
    "head": (0.25, 0.16),
    "bill_length": (0.20, 0.46),
    "bill_depth": (0.20, 0.12),
    "bill_bluntness": (0.0, 0.85),
    "tail": (0.70, 0.20),
    "tail_lift": (-0.10, 0.35),
    "web": (0.0, 1.0),
    "stance": (0.02, -0.12),
}


def bird_shape(rng: np.random.Generator, lean: float) -> BirdShape:
    """The cues of a bird whose affinity is ``lean``."""
    noise = rng.normal(0.0, _CUE_NOISE, len(_CUES))
    mixes = np.clip(0.5 + 0.5 * (lean + noise), -0.12, 1.12)
    return BirdShape(
        **{
            name: land + (water - land) * float(mix)
            for (name, (land, water)), mix in zip(_CUES.items(), mixes, strict=True)
        }
    )


@dataclass(frozen=True)
class Plumage:
    """A bird's colours, which do not know its kind."""

    coat: Colour
    wing: Colour
    belly: Colour
    cap: Colour
    bill: Colour
    legs: Colour


@dataclass(frozen=True)
class Pose:
    """How a bird holds itself, which does not know its kind.

    Attributes:
        lift: how far up the neck is stretched, up to 1.
        nod: how far down the bill points, radians.
        leg: length of leg that shows.
    """

    lift: float
    nod: float
    leg: float


def sketch_bird(rng: np.random.Generator, kind: str) -> Sketch:
    """A bird that faces right, its feet on the origin.

    Args:
        kind: "landbird" or "waterbird".
    """
    shape = bird_shape(rng, affinity(rng, -1.0 if kind == LANDBIRD else 1.0))
    plumage = _plumage(rng)
    pose = Pose(lift=rng.uniform(0.72, 1.0), nod=rng.uniform(-0.12, 0.22), leg=rng.uniform(0.26, 0.5))
    trunk = _Trunk(shape.body_length, shape.body_depth, shape.uprightness, middle=-(pose.leg + shape.body_depth * 0.85))
    sketch = Sketch()
    _tail(sketch, shape, trunk, plumage)
    _legs(sketch, shape, trunk, plumage)
    sketch.ellipse(0.0, trunk.middle, trunk.length, trunk.depth, plumage.coat, turn=-trunk.upright)
    sketch.ellipse(*trunk.at(0.12, 0.38), trunk.length * 0.72, trunk.depth * 0.55, plumage.belly, turn=-trunk.upright)
    head = _neck(sketch, shape, trunk, pose, plumage)
    turn = -trunk.upright + 0.12
    sketch.ellipse(*trunk.at(-0.22, -0.12), trunk.length * 0.66, trunk.depth * 0.58, plumage.wing, turn=turn)
    _head(sketch, shape, head, pose.nod, plumage)
    return sketch


def _plumage(rng: np.random.Generator) -> Plumage:
    coat, second = pick(rng, _COATS), pick(rng, _COATS)
    cap = second if rng.random() < 0.5 else shade(coat, rng.uniform(0.7, 1.2))
    bill = pick(rng, _BILLS)
    legs = bill if rng.random() < 0.6 else pick(rng, _BILLS)
    wing = shade(coat, rng.uniform(0.62, 0.85)) if rng.random() < 0.6 else second
    return Plumage(coat=coat, wing=wing, belly=second, cap=cap, bill=bill, legs=legs)


@dataclass(frozen=True)
class _Trunk:
    """The body as a frame of reference: an ellipse turned up by ``upright`` radians, its middle over the feet."""

    length: float
    depth: float
    upright: float
    middle: float

    def at(self, along: float, across: float) -> tuple[float, float]:
        """A point in the body's own axes: 1 along is the breast, 1 across the belly."""
        x, y = along * self.length, across * self.depth
        cosine, sine = math.cos(self.upright), math.sin(self.upright)
        return (x * cosine + y * sine, self.middle - x * sine + y * cosine)


def _tail(sketch: Sketch, shape: BirdShape, trunk: _Trunk, plumage: Plumage) -> None:
    x, y = trunk.at(-0.95, 0.0)
    turn = trunk.upright - shape.tail_lift
    tip_x, tip_y = x - shape.tail * math.cos(turn), y + shape.tail * math.sin(turn)
    corners = [trunk.at(-0.82, -0.1), (tip_x, tip_y - 0.07), (tip_x + 0.03, tip_y + 0.09), trunk.at(-0.7, 0.45)]
    sketch.polygon(corners, shade(plumage.wing, 0.9))


def _legs(sketch: Sketch, shape: BirdShape, trunk: _Trunk, plumage: Plumage) -> None:
    """Sticks with a toe before and one behind, and as much web above the toes as the kind has."""
    for offset, tone in ((-0.10, 0.8), (0.12, 1.0)):
        colour = shade(plumage.legs, tone)
        hip, foot = shape.stance + offset, shape.stance + offset + 0.03
        sketch.line(hip, trunk.middle + trunk.depth * 0.6, foot, -0.03, 0.085, colour)
        toe, web = foot + 0.16 + 0.16 * shape.web, 0.06 + 0.10 * shape.web
        heel = foot - 0.07
        sketch.polygon([(heel, 0.0), (foot - 0.02, -web), (toe, -0.015), (toe, 0.03), (heel, 0.03)], colour)
        sketch.line(foot, -0.02, foot - 0.05 - 0.16 * (1 - shape.web), 0.02, 0.06, colour)


def _neck(sketch: Sketch, shape: BirdShape, trunk: _Trunk, pose: Pose, plumage: Plumage) -> tuple[float, float]:
    """An S from the breast to the head; a short one just lifts the head off the body. Returns the head's middle."""
    x, y = trunk.at(0.70, -0.25)
    length, bend = max(shape.neck, 0.04), shape.bend
    head = (x + length * (0.12 + 0.75 * (1 - pose.lift)) + 0.06, y - length * pose.lift - 0.04)
    path = bezier(
        (x, y),
        (x + 0.10 + bend, y - length * 0.15),
        (head[0] - 0.12 - bend * 1.3, head[1] + length * 0.38),
        head,
    )
    sketch.stroke(path, np.linspace(trunk.depth * 1.15, shape.head * 1.35, len(path)), plumage.coat)
    return head


def _head(sketch: Sketch, shape: BirdShape, head: tuple[float, float], nod: float, plumage: Plumage) -> None:
    """Bill, head and eye; the bill ends in a point or in a blunt spoon."""
    (x, y), radius = head, shape.head
    forward = np.array([math.cos(nod), math.sin(nod)])
    below = np.array([-forward[1], forward[0]])
    root = np.array([x, y + radius * 0.1]) + forward * radius * 0.7
    tip = root + forward * (radius * 0.3 + shape.bill_length)
    half = shape.bill_depth / 2
    blunt = half * max(shape.bill_bluntness, 0.05)
    end = tip + np.array([forward[0] * blunt * 0.7, blunt * 0.5])
    corners = [root - below * half, tip - below * blunt * 0.3, end, tip + below * blunt, root + below * half]
    sketch.polygon(np.stack(corners), plumage.bill)
    sketch.ellipse(x, y, radius * 1.05, radius, plumage.cap)
    sketch.ellipse(x + radius * 0.35, y - radius * 0.15, 0.055, 0.055, (20, 18, 20))
