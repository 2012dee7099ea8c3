"""Measures of many images under many models, each image read and passed through the encoder once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from despur.backbones.heads import Heads
from despur.backbones.protocol import Backbone
from despur.data.examples import Box, Dataset
from despur.data.images import read_image, read_mask_of
from despur.explain.aiou import soft_iou_upsampled
from despur.explain.elsewhere import map_shares
from despur.explain.gradcam import explained_classes, flatten_runs
from despur.explain.localisation import energy_inside, pointing_game
from despur.explain.method import MapMethod
from despur.explain.methods import GRADCAM
from despur.explain.places import NOWHERE, Places, object_as_seen, places_as_seen
from despur.metrics.overlap import adjusted_iou
from despur.progress import Progress, silent

__all__ = [
    "ELSEWHERE",
    "ON_OBJECT",
    "ExplanationReport",
    "explanation_report",
    "measure_explanations",
]

ON_OBJECT: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "aiou": lambda maps, masks, labels: adjusted_iou(soft_iou_upsampled(maps, masks), labels),
    "iou": lambda maps, masks, labels: _of_label(soft_iou_upsampled(maps, masks), labels),
    "energy": lambda maps, masks, labels: _of_label(energy_inside(maps, masks), labels),
    "pointing": lambda maps, masks, labels: _of_label(pointing_game(maps, masks), labels),
}
"""What is measured against a box or a mask, as [*runs, images] from maps, masks and labels; all in [0, 1]."""

ELSEWHERE = ("on_object", "on_attribute", "object_area", "attribute_area")
"""What is measured where the attribute was detected: fields of :class:`~despur.explain.elsewhere.Shares`."""


@dataclass(frozen=True)
class ExplanationReport:
    """AIoU of one model on one split, or another measure of its maps, in [0, 1].

    Attributes:
        average: mean over the images that have a box or a mask.
        worst_group: mean over those of the group with the lowest *accuracy*; None where it has no box and no mask.
    """

    average: float
    worst_group: float | None

    def to_json(self) -> dict[str, float | None]:
        """The value of "aiou", or of another measure, in ``metrics.json``."""
        return {"average": self.average, "worst_group": self.worst_group}


def explanation_report(
    values: Float[np.ndarray, "images"], groups: Int[np.ndarray, "images"], worst_group: int
) -> ExplanationReport | None:
    """Average and worst-group AIoU (or another measure) of one model; None where no image has a box or a mask.

    Args:
        values: of every image: a row of :func:`measure_explanations`; NaN where it is not known.
        groups: group index of each image.
        worst_group: the group with the lowest accuracy (``AccuracyReport.worst_group_index``), which is what
            METHOD section 4 means by worst group here, not the group with the lowest AIoU.
    """
    known = ~np.isnan(values)
    if not known.any():
        return None
    worst = values[known & (groups == worst_group)]
    return ExplanationReport(float(values[known].mean()), float(worst.mean()) if worst.size else None)


@dataclass(frozen=True)
class _Example:
    image: Path
    label: int
    box: Sequence[float] | None
    mask: Path | None
    attribute: Sequence[Box]
    objects: Sequence[Box]

    @property
    def is_marked(self) -> bool:
        """Whether the dataset itself says where the object is."""
        return self.box is not None or self.mask is not None

    @property
    def shows_attribute(self) -> bool:
        """Whether the attribute has a place, and so has the object."""
        return bool(self.attribute) and (self.is_marked or bool(self.objects))


def _examples(dataset: Dataset, places: Places) -> list[_Example]:
    columns = dataset.table.select(["id", "image", "label", "box", "mask"]).to_pylist()
    return [
        _Example(
            image=dataset.root / row["image"],
            label=row["label"],
            box=row["box"],
            mask=None if row["mask"] is None else dataset.root / row["mask"],
            attribute=places.attribute.get(row["id"], ()),
            objects=places.objects.get(row["id"], ()),
        )
        for row in columns
    ]


def _load(example: _Example, backbone: Backbone) -> tuple[Tensor, Tensor, Tensor]:
    """The encoder's input, and on it the object's mask and the attribute's."""
    image = read_image(example.image)
    if example.is_marked:
        mask = None if example.mask is None else read_mask_of(example.mask, example.image, image.size)
        seen = object_as_seen(image.size, backbone.framing, box=example.box, mask=mask)
    else:
        seen = places_as_seen(example.objects, image.size, backbone.framing)
    attribute = places_as_seen(example.attribute, image.size, backbone.framing)
    return backbone.preprocess(image), torch.from_numpy(seen), torch.from_numpy(attribute)


def measure_explanations(
    backbone: Backbone,
    heads: Sequence[Heads],
    dataset: Dataset,
    prompts: Float[Tensor, "templates classes d_text"],
    *,
    method: MapMethod[Any] = GRADCAM,
    places: Places = NOWHERE,
    batch_size: int = 32,
    progress: Progress = silent,
) -> dict[str, Float[np.ndarray, "runs images"]]:
    """Every measure of every model's maps on every image: ``ON_OBJECT`` (AIoU, Eq. 9, first) and ``ELSEWHERE``.

    All are of the map of the image's own class; AIoU holds it against the other classes' maps. Images without any
    place are not read. No map is kept, and none is ever made larger than the explained layer, so that memory does not
    grow with the number of images.

    Args:
        heads: the models to compare, which share each image's pass through the encoder. Each is one model's heads or a
            stack with leading runs dimensions; kinds may differ (projections, attention pools, probes).
        dataset: what to measure, usually one split.
        prompts: text features of the classes' prompts.
        method: how maps are made.
        places: where a detector saw the attribute.
        batch_size: images at once.

    Returns:
        By measure, one row a run, in the order of ``heads`` and of the runs in a stack; values in [0, 1]. A measure of
        ``ON_OBJECT`` is NaN where the dataset knows neither box nor mask, one of ``ELSEWHERE`` where the attribute or
        the object has no place.

    Raises:
        ModelError: the method means nothing on this model.
        UnreadableImage: an image or a mask cannot be read.
    """
    method.check(backbone)
    device = backbone.device
    models = [{name: tensor.to(device) for name, tensor in model.items()} for model in heads]
    classes = [explained_classes(model, prompts.to(device)) for model in models]
    examples = _examples(dataset, places)
    measured = [i for i, example in enumerate(examples) if example.is_marked or example.shows_attribute]
    batches = [measured[start : start + batch_size] for start in range(0, len(measured), batch_size)]
    results: list[Tensor] = []
    with ThreadPoolExecutor() as pool:
        for rows in progress(batches, total=len(measured), label="explaining images", unit="images", each=batch_size):
            loaded = list(pool.map(lambda row: _load(examples[row], backbone), rows))
            pixels, objects, attributes = (torch.stack(parts).to(device) for parts in zip(*loaded, strict=True))
            labels = torch.tensor([examples[row].label for row in rows], device=device)
            seen = method.see(backbone, pixels)
            values = [
                _measure(method.maps(backbone, model, seen, embedded), objects, attributes, labels)
                for model, embedded in zip(models, classes, strict=True)
            ]
            results.append(torch.cat([part.reshape(len(part), -1, len(rows)) for part in values], dim=1).cpu())
    return _by_measure(_spread(results, models, measured, len(examples)), examples)


def _measure(
    maps: Float[Tensor, "*runs images classes height width"],
    objects: Bool[Tensor, "images rows columns"],
    attributes: Bool[Tensor, "images rows columns"],
    labels: Int[Tensor, "images"],
) -> Float[Tensor, "measures *runs images"]:
    on_object = [measure(maps, objects, labels) for measure in ON_OBJECT.values()]
    shares = map_shares(maps, objects, attributes)
    both = [_of_label(shares.on_object, labels), _of_label(shares.on_attribute, labels)]
    areas = [area.expand(maps.shape[:-3]) for area in (shares.object_area, shares.attribute_area)]
    return torch.stack([*on_object, *both, *areas])


def _of_label(
    values: Float[Tensor, "*runs images classes"], labels: Int[Tensor, "images"]
) -> Float[Tensor, "*runs images"]:
    """Each image's value of its own class."""
    return values.gather(-1, labels.expand(values.shape[:-1]).unsqueeze(-1)).squeeze(-1)


def _spread(
    results: list[Tensor], models: Sequence[Heads], measured: list[int], images: int
) -> Float[np.ndarray, "measures runs images"]:
    """The batches' results in their images' columns, NaN elsewhere."""
    runs = sum(math.prod(flatten_runs(model)[0]) for model in models)
    table = np.full((len(ON_OBJECT) + len(ELSEWHERE), runs, images), np.nan)
    if results:
        table[..., measured] = torch.cat(results, dim=-1).double().numpy()
    return table


def _by_measure(
    table: Float[np.ndarray, "measures runs images"], examples: Sequence[_Example]
) -> dict[str, Float[np.ndarray, "runs images"]]:
    """Rows by name, without what was computed of a place that is not there."""
    marked = np.array([example.is_marked for example in examples])
    shown = np.array([example.shows_attribute for example in examples])
    table[: len(ON_OBJECT), :, ~marked] = np.nan
    table[len(ON_OBJECT) :, :, ~shown] = np.nan
    return dict(zip((*ON_OBJECT, *ELSEWHERE), table, strict=True))
