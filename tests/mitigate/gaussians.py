"""A world whose core and shortcut directions are known, so that accuracies can be computed and not only measured.

An image of class y (±1) with attribute a (±1) is CORE · y · e₀ + SHORTCUT · a · e₁ + normal noise of deviation 1 in
DIM dimensions. In training the attribute agrees with the class in SHARE of the images, so e₁ is the better cue there;
evenly over groups only e₀ tells the class, and no classifier has a worst group above Φ(CORE).
"""

from __future__ import annotations

from math import erf, log, sqrt

import torch
from torch import Tensor

from despur.mitigate.study import Examples, Study

DIM, CORE, SHORTCUT = 6, 1.2, 1.8
SLANT = 0.6
"""How much of a class's text vector points along the shortcut, against 1 along the core."""


def normal_cdf(value: float) -> float:
    return 0.5 * (1 + erf(value / sqrt(2)))


BEST = normal_cdf(CORE)
"""The worst group of the classifier that reads e₀ alone, which is the best there is."""


def slanted(core: float, shortcut: float) -> float:
    """The worst group of the classifier along core · e₀ + shortcut · e₁: where the attribute points the wrong way."""
    return normal_cdf((CORE * core - SHORTCUT * abs(shortcut)) / sqrt(core**2 + shortcut**2))


def images(sizes: tuple[int, int, int, int], generator: torch.Generator) -> Examples:
    """Images of (class 0 without, class 0 with, class 1 without, class 1 with)."""
    groups = torch.repeat_interleave(torch.arange(4), torch.tensor(sizes))
    labels, present = groups // 2, groups % 2
    features = torch.randn(len(groups), DIM, generator=generator, dtype=torch.float64)
    features[:, 0] += CORE * (2.0 * labels - 1)
    features[:, 1] += SHORTCUT * (2.0 * present - 1)
    return Examples(features, labels, groups)


def _texts(*rows: tuple[float, float, float]) -> Tensor:
    """Two templates of each text: (along e₀, along e₁, along e₂), and a little of e₃ that the templates differ in."""
    vectors = torch.zeros(2, len(rows), DIM, dtype=torch.float64)
    vectors[:, :, :3] = torch.tensor(rows, dtype=torch.float64)
    vectors[0, :, 3], vectors[1, :, 3] = 0.1, -0.1
    return vectors


def gaussian_world(images_a_side: int = 950, few: int = 50, seed: int = 0) -> Study:
    """Training groups of ``images_a_side`` and ``few``, even validation groups; heads are the identity."""
    generator = torch.Generator().manual_seed(seed)
    identity = torch.eye(DIM, dtype=torch.float64)
    return Study(
        train=images((images_a_side, few, few, images_a_side), generator),
        val=images((2000, 2000, 2000, 2000), generator),
        class_prompts=_texts((-1, -SLANT, 1), (1, SLANT, 1)),
        group_prompts=_texts((-1, -1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, 1)),
        heads={
            "image.weight": identity,
            "text.weight": identity,
            "logit_scale": torch.tensor(log(10.0), dtype=torch.float64),
        },
        classes=("landbird", "waterbird"),
        attribute="water",
        phrase_prompts=_texts((0, -1, 1), (0, 1, 1)),
    )


def unseen_images(seed: int = 1) -> Examples:
    """20,000 images, evenly over groups: an accuracy of a group of 5,000 is known to about half a point."""
    return images((5000,) * 4, torch.Generator().manual_seed(seed))
