"""Before/after strips of every group: at random, where the map changed most and where least; each says which."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from despur.backbones.heads import Heads, class_logits
from despur.data.examples import Dataset
from despur.data.images import read_image, read_mask_of
from despur.errors import WorkspaceError
from despur.explain.gradcam import explained_classes
from despur.explain.method import MapMethod
from despur.explain.overlay import contours, overlay, with_outline
from despur.explain.places import object_as_seen
from despur.explain.randomisation import map_agreement
from despur.mitigate.methods import find_method
from despur.mitigate.runs import Run
from despur.pipeline.embedded import EmbeddedImages
from despur.pipeline.evaluation import Split
from despur.pipeline.settings import ExplainSettings
from despur.workspace import read_object, write_json, write_whole

STRIPS = "strips"

AT_RANDOM, MOST, LEAST = "at random", "largest change", "smallest change"

CHOICES = (AT_RANDOM, MOST, LEAST)
"""How a strip's image was chosen among its group's; they take turns. A picture that stands alone is a random one."""

CANDIDATES = 24
"""Images of a group, drawn by the seed, among which changes are compared: each costs a pass through the encoder."""


class Seen:
    """Images of one batch under several models: maps of the own class, and what each model says.

    Args:
        dataset: the images, read at once.
        models: heads by the model's name.
        method: how maps are made.

    Attributes:
        maps: [images, height, width] in [0, 1] by model, on the CPU.
    """

    def __init__(
        self, embedded: EmbeddedImages, dataset: Dataset, models: Mapping[str, Heads], method: MapMethod[Any]
    ) -> None:
        self.dataset = dataset
        self._backbone, self._prompts = embedded.backbone, embedded.class_prompts
        self._photographs = [read_image(path) for path in dataset.image_paths()]
        pixels = [self._backbone.preprocess(photograph) for photograph in self._photographs]
        self._pixels = torch.stack(pixels).to(embedded.device)
        self._models = {
            name: {key: head.to(embedded.device) for key, head in heads.items()} for name, heads in models.items()
        }
        passed = method.see(self._backbone, self._pixels)
        labels = torch.from_numpy(dataset.labels).to(embedded.device)
        images = torch.arange(len(labels), device=labels.device)
        self.maps: dict[str, Float[Tensor, "images height width"]] = {}
        for name, heads in self._models.items():
            maps = method.maps(self._backbone, heads, passed, explained_classes(heads, self._prompts))
            self.maps[name] = maps[images, labels].cpu()

    @cached_property
    def said(self) -> dict[str, list[int]]:
        """The predicted classes by model; costs another pass through the encoder."""
        features = self._backbone.image_features(self._pixels).float()
        return {
            name: class_logits(heads, features, self._prompts).argmax(-1).tolist()
            for name, heads in self._models.items()
        }

    def laid(self, index: int, model: str, *, contour: bool) -> Image.Image:
        """One image under one model's map, the object outlined where it is known."""
        draw = contours if contour else overlay
        return draw(self._picture(index), self.maps[model][index], outline=self._outline(index))

    def photograph(self, index: int) -> Image.Image:
        """One image as the encoder sees it, the object outlined where it is known."""
        outline = self._outline(index)
        return self._picture(index) if outline is None else with_outline(self._picture(index), outline)

    def _picture(self, index: int) -> Image.Image:
        return self._backbone.framing.image(self._photographs[index])

    def _outline(self, index: int) -> Bool[np.ndarray, "rows columns"] | None:
        """Where the object is; None where it is not known."""
        box, mask = (self.dataset.table[column][index].as_py() for column in ("box", "mask"))
        if box is None and mask is None:
            return None
        size, image = self._photographs[index].size, self.dataset.image_paths()[index]
        drawn = None if mask is None else read_mask_of(self.dataset.root / mask, image, size)
        return object_as_seen(size, self._backbone.framing, box=box, mask=drawn)


def heads_of(runs: Mapping[str, Run]) -> dict[str, Heads]:
    """Heads by the run's name, as :class:`Seen` takes them."""
    return {name: run.heads for name, run in runs.items()}


def choose(change: Float[np.ndarray, "images"], count: int, generator: np.random.Generator) -> list[tuple[int, str]]:
    """Up to ``count`` different images, and how each was chosen: the ``CHOICES`` take turns.

    Args:
        change: how much each image's map changed; where it is NaN or all alike there is nothing to compare, and all are
            random.
    """
    # A method that reads no head gives every model the same map: none changed most.
    known = not np.isnan(change).any() and len(change) > 0 and change.min() < change.max()
    order = list(np.argsort(-change, kind="stable")) if known else []
    shuffled = list(generator.permutation(len(change)))
    chosen: dict[int, str] = {}
    for turn in range(min(count, len(change))):
        how = CHOICES[turn % len(CHOICES)] if known else AT_RANDOM
        queue = {MOST: order, LEAST: order[::-1], AT_RANDOM: shuffled}[how]
        chosen[next(int(image) for image in queue if int(image) not in chosen)] = how
    return list(chosen.items())


def map_changes(
    embedded: EmbeddedImages,
    dataset: Dataset,
    compared: Mapping[str, Run],
    method: MapMethod[Any],
    batch_size: int,
) -> Float[np.ndarray, "images"]:
    """1 minus the rank correlation of the first run's map and the last one's, in [0, 2]; NaN for one run alone."""
    names = list(compared)
    if len(names) < 2:
        return np.full(len(dataset), np.nan)
    parts: list[Float[np.ndarray, "images"]] = []
    for start in range(0, len(dataset), batch_size):
        rows = np.arange(start, min(start + batch_size, len(dataset)))
        seen = Seen(embedded, dataset.rows(rows), heads_of(compared), method)
        parts.append(1 - map_agreement(seen.maps[names[0]], seen.maps[names[-1]]).double().numpy())
    return np.concatenate(parts)


def chosen_of_groups(
    embedded: EmbeddedImages,
    compared: Mapping[str, Run],
    split: Split,
    method: MapMethod[Any],
    *,
    count: int,
    batch_size: int,
    seed: int,
) -> list[tuple[int, int, str]]:
    """Up to ``count`` images of every group: its number, the image's row in the split, and how it was chosen.

    Classes that nothing splits are left out where others are split.
    """
    generator = np.random.default_rng(seed)
    found: list[tuple[int, int, str]] = []
    # Where an attribute splits few classes of many, pictures of all the others would hide theirs.
    groups = split.grouping.split_groups or range(len(split.grouping.phrases))
    for group in embedded.progress(groups, total=len(groups), label="comparing maps", unit="groups"):
        inside: Int[np.ndarray, "images"] = np.flatnonzero(split.groups == group)
        candidates = np.sort(generator.permutation(inside)[:CANDIDATES])
        if not len(candidates) or not count:
            continue
        change = map_changes(embedded, split.dataset.rows(candidates), compared, method, batch_size)
        found += [(group, int(candidates[image]), how) for image, how in choose(change, count, generator)]
    return found


def how_chosen(used: Collection[str], seed: int) -> str:
    """How strips were drawn, to follow the word "drawn".

    Args:
        used: which of the ``CHOICES`` were.
    """
    words = {
        AT_RANDOM: f"at random (seed {seed})",
        MOST: "where the map changed most",
        LEAST: "where it changed least",
    }
    ways = [words[how] for how in CHOICES if how in used]
    if len(ways) < 2:
        return "".join(ways)
    return (
        f"{', '.join(ways[:-1])} and {ways[-1]}, as each says "
        f"(change is compared over at most {CANDIDATES} images of a group, drawn at random)"
    )


def write_strips(
    embedded: EmbeddedImages,
    compared: Mapping[str, Run],
    split: Split,
    aiou: Mapping[str, Float[np.ndarray, "images"]],
    method: MapMethod[Any],
    settings: ExplainSettings,
    folder: Path,
) -> None:
    """Photograph, map before and map after of some images of every group, as PNG, with what each model said."""
    phrases = split.grouping.phrases
    chosen = chosen_of_groups(
        embedded,
        compared,
        split,
        method,
        count=settings.strips,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    entries: list[dict[str, Any]] = []
    numbered = enumerate(chosen)
    for place, (group, row, how) in embedded.progress(
        numbered, total=len(chosen), label="drawing strips", unit="images"
    ):
        seen = Seen(embedded, split.dataset.rows(np.array([row])), heads_of(compared), method)
        scores = {name: float(aiou[name][row]) for name in compared}
        panels = _write_panels(seen, compared, scores, folder, f"{place:02d}", contour=settings.contour)
        entries.append({"id": seen.dataset.ids[0], "group": phrases[group], "chosen": how, "panels": panels})
    write_json(
        folder / "strips.json", {"chosen": how_chosen({how for _, _, how in chosen}, settings.seed), "strips": entries}
    )
    for earlier in set(folder.glob("*.png")) - set(strip_files(folder)):
        earlier.unlink()


def strip_files(folder: Path) -> list[Path]:
    """``strips.json`` and the pictures that it names; itself alone where it cannot be read."""
    file = folder / "strips.json"
    try:
        entries = read_object(file, ("strips",))["strips"]
        return [file, *(folder / Path(panel["file"]).name for entry in entries for panel in entry["panels"])]
    except (WorkspaceError, OSError, KeyError, TypeError):
        return [file]


def _write_panels(
    seen: Seen, compared: Mapping[str, Run], aiou: Mapping[str, float], folder: Path, prefix: str, *, contour: bool
) -> list[dict[str, Any]]:
    """Write the pictures of one image; returns what ``strips.json`` says of them."""
    label = int(seen.dataset.labels[0])
    panels: list[dict[str, Any]] = [{"file": f"{prefix}-photograph.png", "caption": "photograph"}]
    pictures = [seen.photograph(0)]
    for name, run in compared.items():
        said = seen.said[name][0]
        pictures.append(seen.laid(0, name, contour=contour))
        panels.append(
            {
                "file": f"{prefix}-{name}.png",
                "caption": find_method(run.method).title,
                "said": seen.dataset.classes[said],
                "correct": said == label,
                "aiou": None if np.isnan(aiou[name]) else aiou[name],
            }
        )
    for panel, picture in zip(panels, pictures, strict=True):
        with write_whole(folder / panel["file"]) as temporary:
            picture.save(temporary, format="PNG")
    return panels
