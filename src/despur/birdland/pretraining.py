"""The scenes that the small models are trained on, in memory: birds and objects, as often in their usual context as
is asked for.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from despur.birdland.birds import BIRDS
from despur.birdland.captions import Shown
from despur.birdland.scene import Box, Scene
from despur.birdland.studies import OBJECT_CLASSES, ScenePlan, plan_objects, render
from despur.birdland.tabletop import COMPANIONS
from despur.birdland.things import THINGS
from despur.progress import Progress, silent

NAMES: tuple[str, ...] = (*BIRDS, *OBJECT_CLASSES, *COMPANIONS, *THINGS)
"""Everything that can be seen in a scene, birds first."""

_CHUNK = 256
# No study draws from this stream: what a model is pre-trained on never appears in what it is tested on.
_STREAM = 7


@dataclass(frozen=True)
class DrawnScenes:
    """Scenes in memory.

    Attributes:
        pixels: RGB.
        shown: what each shows, in words.
        labels: index of each one's class in its study.
        present: whether its planted attribute is there (water; the companion of its own class).
        boxes: each one's subject, (x0, y0, x1, y1) in pixels.
        owners: what each pixel shows: a place in ``NAMES`` plus 1, or 0 for the backdrop.
    """

    pixels: UInt8[Tensor, "scenes 3 height width"]
    shown: tuple[Shown, ...]
    labels: tuple[int, ...]
    present: tuple[bool, ...]
    boxes: Float[Tensor, "scenes 4"]
    owners: UInt8[Tensor, "scenes height width"]


def plan_pretraining(
    seed: int, *, birds: int, objects: int, bird_correlation: float = 0.5, object_correlation: float = 0.5
) -> list[ScenePlan]:
    """Scenes of both studies for pre-training, classes evenly, none of which a study holds.

    Args:
        birds, objects: how many of each.
        bird_correlation: the part of each kind of bird's scenes that have its usual place.
        object_correlation: the part of a planted class's scenes that hold its companion.
    """
    rng = np.random.default_rng((seed, _STREAM))
    labels = rng.permutation(np.arange(birds) % 2)
    usual = rng.random(birds) < bird_correlation
    plans = [
        ScenePlan("birds", index, "train", label, at_home == (label == 1), (), (seed, _STREAM, 0, index))
        for index, (label, at_home) in enumerate(zip(labels.tolist(), usual.tolist(), strict=True))
    ]
    drawn = plan_objects(seed, train=objects, val=0, test=0, correlation=object_correlation)
    return plans + [replace(plan, seed=(seed, _STREAM, 1, index)) for index, plan in enumerate(drawn)]


def describe(plan: ScenePlan, scene: Scene) -> Shown:
    """What a scene shows, in words; what is wholly hidden is not mentioned."""
    subject, *rest = [thing.name for thing in scene.things]
    if plan.study == "birds":
        return Shown(subject, (scene.place,), "on", tuple(rest))
    companions = tuple(name for name in rest if name in plan.companions)
    return Shown(subject, companions, "with", tuple(name for name in rest if name not in plan.companions))


def draw_scenes(plans: list[ScenePlan], *, workers: int | None = None, progress: Progress = silent) -> DrawnScenes:
    """Draw the scenes of plans, in processes side by side.

    Args:
        workers: processes; one for each processor when not given, none beside this one at 1.
    """
    chunks = [plans[start : start + _CHUNK] for start in range(0, len(plans), _CHUNK)]
    workers = min(workers or os.cpu_count() or 1, len(chunks))
    if workers <= 1:
        drawn = [_draw(chunk) for chunk in progress(chunks, total=len(plans), label="drawing scenes", each=_CHUNK)]
    else:
        # A forked child would inherit torch's threads in a state that can deadlock.
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            steps = pool.map(_draw, chunks)
            drawn = list(progress(steps, total=len(plans), label="drawing scenes", each=_CHUNK))
    pixels = torch.from_numpy(np.concatenate([pixels for pixels, *_ in drawn])).permute(0, 3, 1, 2).contiguous()
    return DrawnScenes(
        pixels,
        tuple(one for _, shown, *_ in drawn for one in shown),
        tuple(plan.label for plan in plans),
        tuple(plan.present for plan in plans),
        torch.tensor([box for _, _, boxes, _ in drawn for box in boxes]),
        torch.from_numpy(np.concatenate([owners for *_, owners in drawn])),
    )


_Chunk = tuple[
    UInt8[np.ndarray, "scenes height width 3"], list[Shown], list[Box], UInt8[np.ndarray, "scenes height width"]
]


def _draw(plans: list[ScenePlan]) -> _Chunk:
    scenes = [render(plan) for plan in plans]
    pixels = np.stack([scene.pixels for scene in scenes])
    shown = [describe(plan, scene) for plan, scene in zip(plans, scenes, strict=True)]
    owners = np.stack([owner_map(scene) for scene in scenes])
    return pixels, shown, [scene.things[0].box for scene in scenes], owners


def owner_map(scene: Scene) -> UInt8[np.ndarray, "height width"]:
    """What each pixel of a scene shows: a place in ``NAMES`` plus 1, or 0 for the backdrop."""
    owners = np.zeros(scene.pixels.shape[:2], dtype=np.uint8)
    for thing in scene.things:
        owners[thing.mask] = NAMES.index(thing.name) + 1
    return owners
