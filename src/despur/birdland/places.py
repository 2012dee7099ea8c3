"""Backdrops: land (grass, soil, sand, forest) and water (sea, lake, river), and the plain rooms of the second study.

Hue, light, horizon and sky vary widely and overlap; what tells the places apart is mostly texture. Water ripples in
long level streaks and carries the sky's colour; land is speckled, clodded or bladed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image

from despur.birdland.canvas import SIDE, Colour, Picture

PLACES = ("land", "water")
"""The attribute "water" is absent or present: an index into this."""

Field = Float[np.ndarray, "96 96"]

_ROWS = np.arange(SIDE, dtype=np.float32)[:, None]
_COLUMNS = np.arange(SIDE, dtype=np.float32)[None, :]

_SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((96, 150, 214), (206, 224, 238)),
    ((150, 160, 172), (206, 208, 208)),
    ((116, 128, 166), (240, 196, 150)),
    ((74, 96, 140), (226, 168, 156)),
    ((188, 200, 206), (232, 230, 220)),
    ((120, 174, 200), (226, 234, 214)),
)
_WATERS: tuple[Colour, ...] = (
    (44, 92, 140),
    (56, 124, 134),
    (92, 112, 124),
    (70, 104, 84),
    (104, 106, 92),
    (120, 140, 168),
)
_GROUNDS: dict[str, tuple[Colour, ...]] = {
    "grass": ((96, 134, 62), (132, 142, 70), (70, 108, 66), (152, 144, 84)),
    "soil": ((128, 98, 72), (104, 84, 70), (150, 118, 88), (118, 108, 100)),
    "sand": ((206, 182, 140), (186, 160, 122), (196, 184, 164)),
    "forest": ((84, 82, 50), (98, 76, 52), (66, 86, 50)),
}


@dataclass(frozen=True)
class Setting:
    """What both places share in a scene.

    Attributes:
        horizon: height of the horizon, pixels from the top.
        zenith, haze: the sky's colours at the top and at the horizon.
    """

    horizon: float
    zenith: Colour
    haze: Colour


def draw_setting(rng: np.random.Generator) -> Setting:
    """A horizon and a sky, of which neither knows the place."""
    zenith, haze = _SKIES[rng.integers(len(_SKIES))]
    wobble = rng.normal(0.0, 10.0, 6)
    return Setting(
        horizon=float(rng.uniform(0.14, 0.52) * SIDE),
        zenith=(zenith[0] + wobble[0], zenith[1] + wobble[1], zenith[2] + wobble[2]),
        haze=(haze[0] + wobble[3], haze[1] + wobble[4], haze[2] + wobble[5]),
    )


def draw_light(rng: np.random.Generator) -> Picture:
    """What the whole picture is multiplied by: brightness, tint, a slope across the frame, and grain."""
    tint = np.exp(rng.normal(0.0, 0.07, 3)) * rng.uniform(0.7, 1.06)
    slope = rng.uniform(-0.12, 0.12, 2) / SIDE
    grain = rng.standard_normal((SIDE, SIDE), dtype=np.float32) * np.float32(rng.uniform(0.006, 0.03))
    grain += np.float32(1) + (_COLUMNS - SIDE / 2) * np.float32(slope[0]) + (_ROWS - SIDE / 2) * np.float32(slope[1])
    return _flat(tint) * grain


def draw_place(rng: np.random.Generator, place: str, setting: Setting) -> Picture:
    """The backdrop of a bird scene, [0, 255].

    Args:
        place: "land" or "water".
    """
    sky = _sky(setting)
    return _water(rng, setting, sky) if place == "water" else _land(rng, setting, sky)


def draw_room(rng: np.random.Generator) -> tuple[Picture, float]:
    """A plain wall and table top in neutral colours, and the height of the table's far edge, pixels from the top."""
    grey = rng.uniform(110, 215)
    wall = grey + rng.normal(0.0, 6.0, 3)
    table = np.clip(grey * rng.uniform(0.7, 1.2), 85, 230) + rng.normal(0.0, 8.0, 3)
    edge = float(rng.uniform(0.12, 0.36) * SIDE)
    level = _below(np.full((1, SIDE), edge, dtype=np.float32))
    return _over(_flat(wall), _flat(table), level) * (1 + 0.04 * _noise(rng, 4, 4)), edge


def _flat(colour: Colour | Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 1 1"]:
    return np.asarray(colour, dtype=np.float32)[:, None, None]


def _noise(rng: np.random.Generator, rows: int, columns: int) -> Field:
    """Smooth noise of standard deviation about 1 from a coarse grid of ``rows`` by ``columns`` normal values."""
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(Image.fromarray(grid).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _below(edge: Float[np.ndarray, "1 96"]) -> Float[np.ndarray, "96 96"]:
    """How much of each pixel lies below an edge given by its height in every column."""
    return np.clip(_ROWS + 1 - edge, 0.0, 1.0)


def _over(under: Picture, paint: Picture, cover: Field) -> Picture:
    return under + (paint - under) * cover


def _ridge(rng: np.random.Generator, middle: float, height: float, bumps: int) -> Float[np.ndarray, "1 96"]:
    """A wavy edge around ``middle`` of about ``height`` pixels up and down."""
    heights = rng.standard_normal((1, bumps), dtype=np.float32)
    wave = np.asarray(Image.fromarray(heights).resize((SIDE, 1), Image.Resampling.BICUBIC))
    return np.float32(middle) - np.float32(height) * wave


def _sky(setting: Setting) -> Picture:
    fall = np.clip(_ROWS / max(setting.horizon, 1.0), 0.0, 1.0)
    column = _flat(setting.zenith) + (_flat(setting.haze) - _flat(setting.zenith)) * fall
    return np.broadcast_to(column, (3, SIDE, SIDE))


def _land(rng: np.random.Generator, setting: Setting, sky: Picture) -> Picture:
    kind = ("grass", "grass", "soil", "sand", "forest")[rng.integers(5)]
    grounds = _GROUNDS[kind]
    ground = np.asarray(grounds[rng.integers(len(grounds))]) + rng.normal(0.0, 12.0, 3)
    scene = sky
    if kind == "forest":
        scene = _wood(rng, scene, ground)
    elif rng.random() < 0.6:
        hill = 0.55 * ground + 0.45 * np.asarray(setting.haze) + rng.normal(0.0, 10.0, 3)
        ridge = _ridge(rng, setting.horizon - rng.uniform(3, 10), rng.uniform(2, 6), int(rng.integers(3, 7)))
        scene = _over(scene, _flat(hill), _below(ridge))
    texture = 0.10 * _noise(rng, 7, 7) + 0.10 * _speckle(rng, kind)
    depth = np.clip((_ROWS - setting.horizon) / SIDE, 0.0, 1.0)
    near = rng.uniform(-0.1, 0.35)
    surface = _flat(ground) * (1 + texture + near * (depth - 0.3))
    if rng.random() < 0.35:
        other = np.asarray(_GROUNDS["soil"][rng.integers(4)]) + rng.normal(0.0, 10.0, 3)
        patch = np.clip(_noise(rng, 4, 4) * 2 - 1, 0.0, 1.0)
        surface = _over(surface, _flat(other) * (1 + texture), patch)
    return _over(scene, surface, _below(_ridge(rng, setting.horizon, rng.uniform(0.5, 3), int(rng.integers(4, 12)))))


def _speckle(rng: np.random.Generator, kind: str) -> Field:
    """The fine texture of a ground: upright blades of grass, litter, clods, or grains."""
    if kind == "grass":
        return 1.2 * _noise(rng, 30, 96)
    if kind == "forest":
        return 1.4 * _noise(rng, 44, 40)
    if kind == "soil":
        return 1.3 * _noise(rng, 34, 34)
    return 0.7 * _noise(rng, 64, 64)


def _wood(rng: np.random.Generator, scene: Picture, ground: Float[np.ndarray, "3"]) -> Picture:
    """Foliage with pale or dark trunks, out of focus behind the scene."""
    leaves = np.array([52.0, 78.0, 44.0]) * rng.uniform(0.7, 1.5) + rng.normal(0.0, 10.0, 3)
    thick = np.clip(0.75 + 0.5 * _noise(rng, 8, 10), 0.0, 1.0)
    scene = _over(scene, _flat(leaves) * (1 + 0.22 * _noise(rng, 26, 26)), thick)
    bark = ground * rng.uniform(0.4, 1.2)
    trunks = np.zeros((1, SIDE), dtype=np.float32)
    for middle in rng.uniform(0, SIDE, int(rng.integers(2, 6))):
        trunks = np.maximum(trunks, np.clip(rng.uniform(1.0, 2.6) - np.abs(_COLUMNS - middle), 0.0, 1.0))
    return _over(scene, _flat(bark), np.broadcast_to(trunks * 0.85, (SIDE, SIDE)))


def _water(rng: np.random.Generator, setting: Setting, sky: Picture) -> Picture:
    tone = np.asarray(_WATERS[rng.integers(len(_WATERS))]) + rng.normal(0.0, 12.0, 3)
    haze = np.asarray(setting.haze)
    scene = sky
    depth = np.clip((_ROWS - setting.horizon) / (SIDE - setting.horizon), 0.0, 1.0)
    sheen = np.clip(rng.uniform(0.25, 0.75) * (1 - depth) ** rng.uniform(0.8, 2.0), 0.0, 1.0)
    surface = _flat(tone) * (1 - sheen) + _flat(haze) * sheen
    waves = _ripples(rng, setting.horizon) * (0.05 + 0.12 * depth) * rng.uniform(0.6, 1.3)
    if rng.random() < 0.55:
        shore = _flat(np.asarray(_GROUNDS[("grass", "soil", "forest")[rng.integers(3)]][0]) * 0.6 + 0.4 * haze)
        height = rng.uniform(1.5, 8)
        ridge = _ridge(rng, setting.horizon - height, rng.uniform(1, 4), int(rng.integers(3, 9)))
        scene = _over(scene, shore * (1 + 0.1 * _noise(rng, 24, 24)), _below(ridge))
        # Its reflection hangs below the waterline, as deep as the shore is high, and breaks up in the waves.
        mirrored = 1 - _below(2 * np.float32(setting.horizon) - ridge + 12 * waves)
        surface = _over(surface, shore * 0.8, rng.uniform(0.3, 0.7) * mirrored)
    surface = surface * (1 + waves)
    # Crests catch the sky's light.
    crest = np.clip(waves * 5 - rng.uniform(0.3, 0.8), 0.0, 0.6)
    surface = _over(surface, _flat(haze * 1.08), crest)
    scene = _over(scene, surface, _below(np.full((1, SIDE), setting.horizon, dtype=np.float32)))
    if rng.random() < 0.3:
        # A corner of the near shore.
        bank = np.asarray(_GROUNDS[("sand", "soil", "grass")[rng.integers(3)]][0]) + rng.normal(0.0, 12.0, 3)
        slope = (0.2 if rng.random() < 0.5 else -0.2) * rng.uniform(0.5, 1.5)
        edge = _ridge(rng, SIDE - rng.uniform(-4, 5), 1.0, 6) + slope * (_COLUMNS - SIDE / 2)
        scene = _over(scene, _flat(bank) * (1 + 0.12 * _noise(rng, 40, 40)), _below(edge))
    return scene


def _ripples(rng: np.random.Generator, horizon: float) -> Field:
    """Level streaks, long and thin, that widen toward the viewer."""
    grid = rng.standard_normal((36, int(rng.integers(5, 12))), dtype=np.float32)
    streaks = np.asarray(Image.fromarray(grid).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    # Rows near the horizon lie further apart on the water: read the noise at perspective depth.
    below = np.clip((np.arange(SIDE) - horizon) / (SIDE - horizon), 0.0, 1.0)
    rows = (below**0.6 * (SIDE - 1)).astype(np.intp)
    return streaks[rows]
