"""Logistic regression to its optimum, several at once: last layers that are solved for and not trained step by step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

STEPS = 5_000
"""At most; a problem of a few hundred images is done after some hundred."""

TOLERANCE = 1e-6
"""Of the largest change of a weight in a step, where solving stops, relative to the largest weight."""


def fit_logistic(
    features: Float[Tensor, "problems images d"],
    labels: Int[Tensor, "problems images"],
    classes: int,
    *,
    l1: Float[Tensor, "problems"] | float = 0.0,
    l2: Float[Tensor, "problems"] | float = 0.0,
    steps: int = STEPS,
    tolerance: float = TOLERANCE,
) -> tuple[Float[Tensor, "problems classes d"], Float[Tensor, "problems classes"]]:
    """Weights and biases with the least *mean* cross-entropy + l1 · Σ|w| + l2 / 2 · Σw², biases penalised as weights.

    By accelerated proximal gradients (Beck and Teboulle 2009) that start anew when the objective would rise
    (O'Donoghue and Candès 2015). With two classes and no l2 the difference of the two rows is the weight vector that
    liblinear finds for C = 1 / (l1 · images), intercept_scaling = 1: it too penalises the intercept.
    """
    problems, images, _ = features.shape
    design = torch.cat([features, features.new_ones(problems, images, 1)], dim=-1)
    targets = F.one_hot(labels, classes).to(design.dtype)
    shrink = torch.as_tensor(l1, dtype=design.dtype, device=design.device).expand(problems)[:, None, None]
    decay = torch.as_tensor(l2, dtype=design.dtype, device=design.device).expand(problems)[:, None, None]
    # The Hessian of a softmax's cross-entropy is at most 1/2 of the features' second moment.
    step = 1 / (0.5 * _largest_eigenvalue(design)[:, None, None] / images + decay)
    weights = design.new_zeros(problems, classes, design.shape[-1])
    ahead, pace = weights, design.new_ones(problems, 1, 1)
    for _ in range(steps):
        errors = (design @ ahead.mT).softmax(-1) - targets
        moved = ahead - step * (errors.mT @ design / images + decay * ahead)
        found = moved.sign() * (moved.abs() - step * shrink).clamp_(min=0)
        change = found - weights
        # Where momentum points uphill it is dropped.
        uphill = ((ahead - found) * change).sum((-2, -1), keepdim=True) > 0
        next_pace = torch.where(uphill, 1.0, (1 + (1 + 4 * pace**2).sqrt()) / 2)
        ahead = found + torch.where(uphill, 0.0, (pace - 1) / next_pace) * change
        weights, pace = found, next_pace
        if bool(change.abs().amax() <= tolerance * weights.abs().amax().clamp(min=tolerance)):
            break
    return weights[..., :-1], weights[..., -1]


def _largest_eigenvalue(design: Float[Tensor, "problems images d"]) -> Float[Tensor, "problems"]:
    """Of each XᵀX, through the smaller of its two Gram matrices."""
    gram = design @ design.mT if design.shape[-2] < design.shape[-1] else design.mT @ design
    return torch.linalg.eigvalsh(gram)[..., -1]


def fold_standardisation(
    weight: Float[Tensor, "*problems classes d"],
    bias: Float[Tensor, "*problems classes"],
    mean: Float[Tensor, "d"],
    deviation: Float[Tensor, "d"],
) -> tuple[Float[Tensor, "*problems classes d"], Float[Tensor, "*problems classes"]]:
    """The same classifier on features as they are, from one on (features - mean) / deviation."""
    folded = weight / deviation
    return folded, bias - folded @ mean
