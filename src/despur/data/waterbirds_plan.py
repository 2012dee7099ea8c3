"""Which bird of CUB stands before which photograph of Places, in a Waterbirds of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from despur.data.examples import SPLITS
from despur.data.folder import image_files
from despur.data.paths import check_inside
from despur.data.waterbirds import read_numbered
from despur.errors import DataError

WATER_SPECIES = (
    *("albatross", "auklet", "cormorant", "frigatebird", "fulmar", "gull", "jaeger", "kittiwake", "pelican", "puffin"),
    *("tern", "gadwall", "grebe", "mallard", "merganser", "guillemot"),
)
"""Seabirds and waterfowl by the last word of a species' name; of the loons, only the Pacific one is in CUB."""

PLACES = (("bamboo_forest", "forest/broadleaf"), ("ocean", "lake/natural"))
"""Categories of Places that are land, and those that are water."""

PLACES_HOMES = ("", "data_large", "data_256", "train", "places365_standard/train", "data_large_standard")

VALIDATION_SHARE = 0.2
"""Of CUB's training images; its test images are the test."""


@dataclass(frozen=True)
class Bird:
    """One image of CUB: its number, its name below ``images/``, 1 for a waterbird, and its split."""

    number: str
    image: str
    label: int
    split: str


@dataclass(frozen=True)
class Scene:
    """A bird, whether it stands before water, and the background's path below the folder of Places."""

    bird: Bird
    water: int
    background: str


def is_waterbird(species: str) -> bool:
    """Whether a species ("002.Laysan_Albatross") is a seabird or waterfowl, as Waterbirds' authors have it."""
    words = species.partition(".")[2].lower().split("_")
    # Whole words: a Western Meadowlark is no tern.
    return words[-1] in WATER_SPECIES or words[-2:] == ["pacific", "loon"]


def read_birds(cub: Path, seed: int) -> list[Bird]:
    """CUB's images with Waterbirds' labels; a fifth of each label's training images, drawn by the seed, is validation.

    Raises:
        DataError: a list is missing or is not CUB's.
    """
    names = {words[0]: words[1] for words in read_numbered(cub / "images.txt", 1)}
    trained = {words[0]: words[1] for words in read_numbered(cub / "train_test_split.txt", 1)}
    check_inside(cub / "images.txt", names.values())
    missing = next((number for number in names if trained.get(number) not in ("0", "1")), None)
    if missing is not None:
        raise DataError(
            f"it does not say 0 or 1 of image {missing}", where=cub / "train_test_split.txt", now="is it CUB's own?"
        )
    labels = {number: int(is_waterbird(Path(name).parts[0])) for number, name in names.items()}
    split_of = {number: "train" if trained[number] == "1" else "test" for number in names}
    generator = np.random.default_rng([seed, 0])
    for label in (0, 1):
        mine = [number for number in names if labels[number] == label and split_of[number] == "train"]
        for place in generator.permutation(len(mine))[: round(VALIDATION_SHARE * len(mine))]:
            split_of[mine[place]] = "val"
    return [Bird(number, name, labels[number], split_of[number]) for number, name in names.items()]


def find_backgrounds(places: Path) -> tuple[list[str], list[str]]:
    """Photographs of land and of water below the folder of Places, in any of its downloads' layouts.

    Raises:
        DataError: a category's folder is not there or is empty.
    """
    land, water = ([name for category in kind for name in _category(places, category)] for kind in PLACES)
    return land, water


def _category(places: Path, category: str) -> list[str]:
    ways = [f"{category[0]}/{category}", category, category.replace("/", "-"), category.replace("/", "_")]
    for home in PLACES_HOMES:
        for way in ways:
            folder = places / home / way
            if folder.is_dir():
                files = image_files(folder)
                if files:
                    return [file.relative_to(places).as_posix() for file in files]
    raise DataError(
        f"it has no photographs of {category!r}", where=places, now=f"unpack Places365 so that {ways[0]}/ lies in it"
    )


def plan_scenes(
    birds: Sequence[Bird], backgrounds: tuple[Sequence[str], Sequence[str]], *, share: float = 0.95, seed: int = 0
) -> list[Scene]:
    """Every bird with a place and a background, in the order of the birds.

    In training ``share`` of each label's birds stand before their own place; in validation and test half do. No
    background is used in two splits, and none twice unless there are too few.

    Raises:
        DataError: there are fewer backgrounds of a place than splits.
    """
    generator = np.random.default_rng([seed, 1])
    water = np.zeros(len(birds), dtype=np.int64)
    for split in SPLITS:
        for label in (0, 1):
            rows = np.array(
                [i for i, bird in enumerate(birds) if (bird.split, bird.label) == (split, label)], dtype=int
            )
            water[rows] = label
            strangers = round(len(rows) * (1 - share if split == "train" else 0.5))
            water[generator.permutation(rows)[:strangers]] = 1 - label
    chosen: dict[int, str] = {}
    for place, names in enumerate(backgrounds):
        if len(names) < len(SPLITS):
            raise DataError(f"there are {len(names)} photographs of {('land', 'water')[place]}", now="give more")
        rows_of = [[i for i, bird in enumerate(birds) if bird.split == split and water[i] == place] for split in SPLITS]
        for rows, mine in zip(rows_of, _dealt(generator.permutation(names), [*map(len, rows_of)]), strict=True):
            chosen |= {row: str(mine[turn % len(mine)]) for turn, row in enumerate(rows)}
    return [Scene(bird, int(water[row]), chosen[row]) for row, bird in enumerate(birds)]


def _dealt(names: np.ndarray, needed: Sequence[int]) -> list[np.ndarray]:
    """Names for each split: as many as it needs, or in proportion to that, at least one, where there are too few."""
    spare, total = len(names) - len(needed), sum(needed)
    counts = list(needed) if len(names) >= total else [1 + spare * need // total for need in needed]
    bounds = np.cumsum(counts)
    return [names[bound - count : bound] for bound, count in zip(bounds, counts, strict=True)]
