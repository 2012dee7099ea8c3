"""Whether a model's maps may be trusted: curves against a map drawn at random, and what is left of a map when its head
is shuffled.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from despur.backbones.heads import Heads, class_logits
from despur.backbones.protocol import Backbone
from despur.explain.curves import Score, area_under, deletion_curve, insertion_curve
from despur.explain.gradcam import explained_classes
from despur.explain.method import MapMethod
from despur.explain.randomisation import map_agreement, randomised

__all__ = ["CHECKS", "check_maps"]

CHECKS = ("deletion", "deletion_random", "insertion", "insertion_random", "agreement")


def check_maps(
    backbone: Backbone,
    heads: Heads,
    method: MapMethod[Any],
    pixels: Float[Tensor, "images 3 rows columns"],
    labels: Int[Tensor, "images"],
    prompts: Float[Tensor, "templates classes d_text"],
    *,
    generator: torch.Generator,
    batch_size: int = 32,
) -> dict[str, Float[Tensor, "images"]]:
    """The checks of ``CHECKS`` on each image's map of its own class, for one model.

    Args:
        generator: on the CPU; draws the random maps and shuffles the heads.
        batch_size: pictures that go through the encoder together; the curves need 44 an image.

    Returns:
        ``deletion``, ``insertion``: areas under the curves of the class's probability, in [0, 1]; a map that shows what
        counts has a low and a high one. ``..._random``: the same for a map of noise of the same grid: without it the
        number means nothing. ``agreement``: rank correlation, in [-1, 1], with the map under shuffled heads; near 1 the
        map does not depend on what was learnt.
    """
    seen = method.see(backbone, pixels)
    images = torch.arange(len(labels), device=labels.device)

    def maps_under(model: Heads) -> Float[Tensor, "images height width"]:
        return method.maps(backbone, model, seen, explained_classes(model, prompts))[images, labels]

    maps = maps_under(heads)
    noise = torch.rand(maps.shape, generator=generator).to(maps)
    score = _probability(backbone, heads, labels, prompts, batch_size)
    return {
        "deletion": area_under(deletion_curve(score, pixels, maps)),
        "deletion_random": area_under(deletion_curve(score, pixels, noise)),
        "insertion": area_under(insertion_curve(score, pixels, maps)),
        "insertion_random": area_under(insertion_curve(score, pixels, noise)),
        "agreement": map_agreement(maps, maps_under(randomised(heads, generator))),
    }


def _probability(
    backbone: Backbone, heads: Heads, labels: Int[Tensor, "images"], prompts: Tensor, batch_size: int
) -> Score:
    def score(pictures: Float[Tensor, "pictures 3 rows columns"]) -> Float[Tensor, "pictures"]:
        parts = [
            class_logits(heads, backbone.image_features(part).float(), prompts).softmax(-1)
            for part in pictures.split(batch_size)
        ]
        wanted = F.one_hot(labels, parts[0].shape[-1]).repeat(len(pictures) // len(labels), 1)
        return (torch.cat(parts) * wanted).sum(-1)

    return score
