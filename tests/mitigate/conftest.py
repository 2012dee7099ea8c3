"""A study small enough to train in milliseconds, in which the shortcut and the class lie on axes of their own."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import Tensor

from despur.mitigate.study import Examples, Study

D_IMAGE, D_TEXT, DIM, TEMPLATES = 6, 5, 4, 3


def _examples(sizes: tuple[int, int, int, int], generator: torch.Generator) -> Examples:
    """Images of each group: axis 0 says the class, weakly, axis 1 the attribute, strongly; the rest is noise."""
    groups = torch.repeat_interleave(torch.arange(4), torch.tensor(sizes))
    labels, present = groups // 2, groups % 2
    features = 0.3 * torch.randn(len(groups), D_IMAGE, generator=generator, dtype=torch.float64)
    features[:, 0] += labels.double() - 0.5
    features[:, 1] += 2 * (present.double() - 0.5)
    return Examples(features, labels, groups)


@pytest.fixture
def study() -> Study:
    """Waterbirds in small: float64, 64 training images in groups of 30, 4, 4 and 26, and 10 of each to validate on."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return Study(
        train=_examples((30, 4, 4, 26), generator),
        val=_examples((10, 10, 10, 10), generator),
        class_prompts=normal(TEMPLATES, 2, D_TEXT),
        group_prompts=normal(TEMPLATES, 4, D_TEXT),
        heads={
            "image.weight": normal(DIM, D_IMAGE),
            "image.bias": 0.1 * normal(DIM),
            "text.weight": normal(DIM, D_TEXT),
            "logit_scale": torch.tensor(log(20.0), dtype=torch.float64),
        },
        classes=("landbird", "waterbird"),
        attribute="water",
        phrase_prompts=normal(TEMPLATES, 1, D_TEXT),
    )
