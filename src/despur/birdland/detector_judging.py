"""How well a detector sees birdland's second study: for each thing, whether the right scenes are said to show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image

from despur.birdland.detector_fitting import VALUES
from despur.birdland.detector_model import DETECTED, SmallDetector
from despur.birdland.detector_targets import thing_boxes
from despur.birdland.pretraining import DrawnScenes
from despur.detect.owl import OwlDetector
from despur.progress import Progress, silent

_BATCH = 64


@dataclass(frozen=True)
class Judged:
    """What a detector says of scenes, and what is true.

    Attributes:
        scores: the highest score of each thing's phrase in each scene; 0 where no place names it.
        overlap: IoU of the box with that score and the thing's true box; 0 where either is missing.
        seen: whether the scene shows the thing.
    """

    scores: Float[np.ndarray, "scenes names"]
    overlap: Float[np.ndarray, "scenes names"]
    seen: Bool[np.ndarray, "scenes names"]

    def f1(self, threshold: float) -> Float[np.ndarray, "names"]:
        """F1 of presence, a thing, in [0, 1]: it is said to be there where its score is above the threshold."""
        said = self.scores > threshold
        both = (said & self.seen).sum(0)
        return 2.0 * both / np.maximum(said.sum(0) + self.seen.sum(0), 1)

    def box_iou(self, threshold: float) -> Float[np.ndarray, "names"]:
        """Mean IoU, a thing, over the scenes where it is rightly found; NaN where there is none."""
        found = (self.scores > threshold) & self.seen
        total = (self.overlap * found).sum(0)
        return np.where(found.any(0), total / np.maximum(found.sum(0), 1), np.nan)


def judge_detector(small: SmallDetector, scenes: DrawnScenes, *, progress: Progress = silent) -> Judged:
    """Ask a detector for everything that the study can show, scene by scene, as ``despur detect`` would."""
    detector = OwlDetector(small.model, small.tokenizer, small.image_processor, spec="birdland:detector", threshold=0.0)
    queries = detector.encode(DETECTED)
    boxes, seen = thing_boxes(scenes.owners, VALUES)
    scores, overlap = np.zeros(seen.shape), np.zeros(seen.shape)
    spans = range(0, len(scenes.pixels), _BATCH)
    for start in progress(spans, total=len(scenes.pixels), label="judging", unit="scenes", each=_BATCH):
        pixels = scenes.pixels[start : start + _BATCH].permute(0, 2, 3, 1).numpy()
        found = detector.detect([Image.fromarray(one) for one in pixels], queries)
        # In ascending order of score, so that the highest is what stays.
        order = np.argsort(found.score, kind="stable")
        image, phrase = found.image[order] + start, found.phrase[order]
        scores[image, phrase] = found.score[order]
        overlap[image, phrase] = _iou(found.box[order], boxes[image, phrase].numpy())
    return Judged(scores, overlap * seen.numpy(), seen.numpy())


def _iou(ours: Float[np.ndarray, "boxes 4"], true: Float[np.ndarray, "boxes 4"]) -> Float[np.ndarray, "boxes"]:
    near, far = np.maximum(ours[:, :2], true[:, :2]), np.minimum(ours[:, 2:], true[:, 2:])
    both = np.maximum(far - near, 0.0).prod(1)
    either = (ours[:, 2:] - ours[:, :2]).prod(1) + (true[:, 2:] - true[:, :2]).prod(1) - both
    return both / np.maximum(either, 1e-9)


def best_threshold(judged: Judged, names: Sequence[int] | None = None) -> float:
    """The threshold with the highest mean F1, in (0, 1); in the middle where several are equal."""
    chosen = np.arange(len(DETECTED)) if names is None else np.asarray(names)
    grid = np.linspace(0.01, 0.99, 99)
    means = np.array([judged.f1(float(threshold))[chosen].mean() for threshold in grid])
    best = np.flatnonzero(means >= means.max() - 1e-9)
    return float(grid[best[len(best) // 2]])


def scores_of(judged: Judged, threshold: float) -> dict[str, Any]:
    """The card's numbers: F1 and box overlap of each thing, and their means."""
    f1, iou = judged.f1(threshold), judged.box_iou(threshold)
    return {
        "scenes": len(judged.seen),
        "threshold": threshold,
        "mean_f1": float(f1.mean()),
        "worst_f1": float(f1.min()),
        "mean_box_iou": None if np.isnan(iou).all() else float(np.nanmean(iou)),
        "things": {
            name: {"scenes": int(count), "f1": float(score), "box_iou": None if np.isnan(place) else float(place)}
            for name, count, score, place in zip(DETECTED, judged.seen.sum(0), f1, iou, strict=True)
        },
    }


def logit(probability: float) -> float:
    """The inverse of the logistic function."""
    return float(torch.logit(torch.tensor(probability, dtype=torch.float64)))
