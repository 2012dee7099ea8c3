"""How far a small CLIP falls for the shortcuts that were planted for it: zero-shot accuracy on both studies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from despur.backbones.heads import class_logits
from despur.backbones.open_clip import OpenClipBackbone
from despur.backbones.prompts import fill, openai_templates
from despur.birdland.birds import BIRDS
from despur.birdland.fitting import encoder_input
from despur.birdland.models import SmallClip, as_backbone
from despur.birdland.pretraining import DrawnScenes
from despur.birdland.studies import OBJECT_CLASSES, PLANTED
from despur.metrics import AccuracyReport, accuracy_report

_BATCH = 256


def zero_shot(small: SmallClip, scenes: DrawnScenes, classes: Sequence[str]) -> Bool[Tensor, "scenes"]:
    """Whether each scene is classified correctly by the classes' names under OpenAI's 80 templates."""
    backbone = as_backbone(small)
    heads, prompts = backbone.heads(), _prompts(backbone, classes)
    predicted: list[Int[Tensor, "images"]] = []
    with torch.inference_mode():
        for pixels in scenes.pixels.split(_BATCH):
            features = backbone.image_features(encoder_input(pixels, small.preprocessing))
            predicted.append(class_logits(heads, features, prompts).argmax(-1))
    return torch.cat(predicted) == torch.tensor(scenes.labels)


def _prompts(backbone: OpenClipBackbone, classes: Sequence[str]) -> Tensor:
    templates = openai_templates()
    features = backbone.text_features(backbone.tokenize(fill(templates, classes)))
    return features.unflatten(0, (len(templates), len(classes)))


def judge_birds(small: SmallClip, scenes: DrawnScenes) -> AccuracyReport:
    """Zero-shot accuracy on scenes of the first study, by group: each kind of bird on land and on water."""
    groups = 2 * np.array(scenes.labels) + np.array(scenes.present)
    correct = zero_shot(small, scenes, BIRDS).numpy()
    return accuracy_report(correct, groups, classes=BIRDS, attribute="water", training_groups=None)


def judge_objects(small: SmallClip, scenes: DrawnScenes) -> dict[str, dict[str, float | str | None]]:
    """Zero-shot accuracy on scenes of the second study, for each class with its planted companion and without.

    Returns:
        For each class its ``companion`` (None where none was planted), and ``accuracy_with`` and ``accuracy_without``
        it, as fractions; None where there are no such scenes.
    """
    correct = zero_shot(small, scenes, OBJECT_CLASSES).numpy()
    labels, present = np.array(scenes.labels), np.array(scenes.present)

    def rate(of: Bool[np.ndarray, "scenes"]) -> float | None:
        return float(correct[of].mean()) if of.any() else None

    return {
        name: {
            "companion": PLANTED.get(name),
            "accuracy_with": rate((labels == label) & present),
            "accuracy_without": rate((labels == label) & ~present),
        }
        for label, name in enumerate(OBJECT_CLASSES)
    }
