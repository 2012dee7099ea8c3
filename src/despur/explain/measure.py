"""AIoU of many images under many models, each image read and passed through the trunk once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from despur.backbones.geometry import Framing
from despur.backbones.heads import Heads
from despur.backbones.protocol import Backbone
from despur.data.examples import Dataset
from despur.data.images import read_image, read_mask
from despur.explain.aiou import adjusted_iou, box_masks, soft_iou_upsampled
from despur.explain.gradcam import explained_classes, flatten_runs, layer_maps
from despur.progress import Progress, silent

__all__ = ["ExplanationReport", "explanation_report", "measure_explanations", "object_as_seen"]


@dataclass(frozen=True)
class ExplanationReport:
    """AIoU of one model on one split, in [0, 1].

    Attributes:
        average: mean over the images that have a box or a mask.
        worst_group: mean over those of the group with the lowest *accuracy*; None where it has no box and no mask.
        images: how many images have a box or a mask.
    """

    average: float
    worst_group: float | None
    images: int

    def to_json(self) -> dict[str, float | None]:
        """The value of "aiou" in ``metrics.json``."""
        return {"average": self.average, "worst_group": self.worst_group}


def explanation_report(
    aiou: Float[np.ndarray, "images"], groups: Int[np.ndarray, "images"], worst_group: int
) -> ExplanationReport | None:
    """Average and worst-group AIoU of one model; None where no image has a box or a mask.

    Args:
        aiou: one row of :func:`measure_explanations`; NaN where there is no ground truth.
        groups: group index of each image.
        worst_group: the group with the lowest accuracy (``AccuracyReport.worst_group_index``), which is what
            METHOD section 4 means by worst group here, not the group with the lowest AIoU.
    """
    known = ~np.isnan(aiou)
    if not known.any():
        return None
    worst = aiou[known & (groups == worst_group)]
    return ExplanationReport(
        average=float(aiou[known].mean()),
        worst_group=float(worst.mean()) if worst.size else None,
        images=int(known.sum()),
    )


def object_as_seen(
    size: tuple[int, int],
    framing: Framing,
    *,
    box: Sequence[float] | None = None,
    mask: Bool[np.ndarray, "height width"] | None = None,
) -> Bool[np.ndarray, "rows columns"]:
    """Where the object is in the encoder's input: resized and cropped as the photograph is.

    Args:
        size: the upright photograph's (width, height) in pixels.
        box: (x0, y0, x1, y1) in its pixels; read only where there is no mask.
        mask: of its pixels; one of another size (a dataset's masks are sometimes kept small) is first stretched to it.
    """
    if mask is not None:
        if mask.shape != (size[1], size[0]):
            stretched = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
            mask = np.asarray(stretched) >= 128
        return framing.mask(mask)
    corners = torch.from_numpy(framing.box(np.asarray(box, dtype=np.float64), size))
    return box_masks(corners.unsqueeze(0), (framing.height, framing.width))[0].numpy()


@dataclass(frozen=True)
class _Example:
    image: Path
    label: int
    box: Sequence[float] | None
    mask: Path | None


def _examples(dataset: Dataset) -> list[_Example]:
    columns = dataset.table.select(["image", "label", "box", "mask"]).to_pylist()
    return [
        _Example(
            image=dataset.root / row["image"],
            label=row["label"],
            box=row["box"],
            mask=None if row["mask"] is None else dataset.root / row["mask"],
        )
        for row in columns
    ]


def _load(example: _Example, backbone: Backbone) -> tuple[Tensor, Tensor]:
    """The encoder's input and the object's mask on it."""
    image = read_image(example.image)
    mask = None if example.mask is None else read_mask(example.mask)
    seen = object_as_seen(image.size, backbone.framing, box=example.box, mask=mask)
    return backbone.preprocess(image), torch.from_numpy(seen)


def measure_explanations(
    backbone: Backbone,
    heads: Sequence[Heads],
    dataset: Dataset,
    prompts: Float[Tensor, "templates classes d_text"],
    *,
    batch_size: int = 32,
    progress: Progress = silent,
) -> Float[np.ndarray, "runs images"]:
    """AIoU (Eq. 9) of every model on every image: the map of the image's own class against those of the others.

    Images with neither box nor mask are not read. No map is kept, and none is ever made larger than the explained
    layer, so that memory does not grow with the number of images.

    Args:
        heads: the models to compare, which share each image's trunk pass. Each is one model's heads or a stack with
            leading runs dimensions; kinds may differ (projections, attention pools, probes).
        dataset: what to measure, usually one split.
        prompts: text features of the classes' prompts.
        batch_size: images at once.

    Returns:
        One row a run, in the order of ``heads`` and of the runs in a stack; values in [0, 1], NaN where the image has
        neither box nor mask.

    Raises:
        UnreadableImage: an image or a mask cannot be read.
    """
    device = backbone.device
    models = [{name: tensor.to(device) for name, tensor in model.items()} for model in heads]
    classes = [explained_classes(model, prompts.to(device)) for model in models]
    examples = _examples(dataset)
    measured = [i for i, example in enumerate(examples) if example.box is not None or example.mask is not None]
    batches = [measured[start : start + batch_size] for start in range(0, len(measured), batch_size)]
    results: list[Tensor] = []
    with ThreadPoolExecutor() as pool:
        for rows in progress(batches, total=len(measured), label="explaining images", unit="images", each=batch_size):
            loaded = list(pool.map(lambda row: _load(examples[row], backbone), rows))
            pixels = torch.stack([pixels for pixels, _ in loaded]).to(device)
            masks = torch.stack([mask for _, mask in loaded]).to(device)
            labels = torch.tensor([examples[row].label for row in rows], device=device)
            output = backbone.trunk(pixels)
            aiou = [
                adjusted_iou(soft_iou_upsampled(layer_maps(backbone, model, output, embedded), masks), labels)
                for model, embedded in zip(models, classes, strict=True)
            ]
            results.append(torch.cat([values.reshape(-1, len(rows)) for values in aiou]).cpu())
    return _spread(results, models, measured, len(examples))


def _spread(
    results: list[Tensor], models: Sequence[Heads], measured: list[int], images: int
) -> Float[np.ndarray, "runs images"]:
    """The batches' results in their images' columns, NaN elsewhere."""
    if not results:
        runs = sum(math.prod(flatten_runs(model)[0]) for model in models)
        return np.full((runs, images), np.nan)
    values = torch.cat(results, dim=1).double().numpy()
    table = np.full((len(values), images), np.nan)
    table[:, measured] = values
    return table
