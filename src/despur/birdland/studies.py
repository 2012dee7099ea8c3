"""The two studies of birdland: which scenes there are, and what each is to show, before any is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from despur.birdland.birds import BIRDS
from despur.birdland.places import PLACES
from despur.birdland.scene import Scene, draw_bird_scene, draw_object_scene
from despur.birdland.tabletop import SUBJECTS
from despur.data.examples import SPLITS

BIRD_COUNTS: dict[str, tuple[int, int, int, int]] = {
    "train": (3498, 184, 56, 1057),
    "val": (467, 466, 133, 133),
    "test": (2255, 2255, 642, 642),
}
"""Scenes by split and group, as in Table 1: landbird on land and on water, waterbird on land and on water."""

OBJECT_CLASSES: tuple[str, ...] = tuple(SUBJECTS)
"""Class names of the second study; a label is an index into them."""

PLANTED: dict[str, str] = {"teapot": "cup", "guitar": "drum", "chair": "cat"}
"""The shortcuts of the second study: class and the companion that goes with it."""

DECOYS: tuple[str, ...] = ("book", "hat", "candle")
"""Companions of the second study that appear as often with every class."""

_DECOY_CHANCE = 0.25


@dataclass(frozen=True)
class ScenePlan:
    """What one scene is to show.

    Attributes:
        study: "birds" or "objects".
        index: position in its study, from 0.
        split: "train", "val" or "test".
        label: index of its class in ``BIRDS`` or ``OBJECT_CLASSES``.
        present: whether the planted attribute is there: water, or the companion of the scene's own class.
        companions: companions in the scene, of the second study only.
        seed: what the scene's random numbers start from.
    """

    study: str
    index: int
    split: str
    label: int
    present: bool
    companions: tuple[str, ...]
    seed: tuple[int, ...]


def bird_counts(scale: float = 1.0) -> dict[str, tuple[int, int, int, int]]:
    """Table 1's counts times ``scale``, rounded, at least one scene in every group of every split."""
    return {
        split: tuple(max(1, round(count * scale)) for count in counts)  # pyright: ignore[reportReturnType]
        for split, counts in BIRD_COUNTS.items()
    }


def plan_birds(seed: int, scale: float = 1.0) -> list[ScenePlan]:
    """The scenes of the first study: splits in order, each split's groups shuffled."""
    plans: list[ScenePlan] = []
    for number, (split, counts) in enumerate(bird_counts(scale).items()):
        groups = np.repeat(np.arange(4), counts)
        np.random.default_rng((seed, 0, number)).shuffle(groups)
        for group in groups.tolist():
            index = len(plans)
            plans.append(ScenePlan("birds", index, split, group // 2, group % 2 == 1, (), (seed, 0, 1000 + index)))
    return plans


def plan_objects(seed: int, *, train: int, val: int, test: int, correlation: float = 0.95) -> list[ScenePlan]:
    """The scenes of the second study.

    Args:
        train, val, test: scenes in each split; classes alternate, so that they differ by at most one.
        correlation: the part of a planted class's training scenes that hold its companion; 1 minus it is the part of
            every other class's scenes that do. In val and test half of the class's scenes hold it.
    """
    plans: list[ScenePlan] = []
    for number, (split, count) in enumerate(zip(SPLITS, (train, val, test), strict=True)):
        rng = np.random.default_rng((seed, 1, number))
        own = correlation if split == "train" else 0.5
        labels = np.arange(count) % len(OBJECT_CLASSES)
        rng.shuffle(labels)
        for label in labels.tolist():
            name, index = OBJECT_CLASSES[label], len(plans)
            seen = tuple(
                companion
                for planted, companion in PLANTED.items()
                if rng.random() < (own if planted == name else 1 - correlation)
            )
            decoys = tuple(decoy for decoy in DECOYS if rng.random() < _DECOY_CHANCE)
            present = PLANTED.get(name) in seen
            plans.append(ScenePlan("objects", index, split, label, present, seen + decoys, (seed, 1, 1000 + index)))
    return plans


def render(plan: ScenePlan) -> Scene:
    """The scene that a plan describes: the same plan gives the same pixels."""
    rng = np.random.default_rng(plan.seed)
    if plan.study == "birds":
        return draw_bird_scene(rng, bird=BIRDS[plan.label], place=PLACES[int(plan.present)])
    return draw_object_scene(rng, subject=OBJECT_CLASSES[plan.label], companions=plan.companions)
