"""SGD with momentum over stacked heads, in place: every run with a learning rate and a weight decay of its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from despur.backbones.heads import MAX_LOG_SCALE

UNDECAYED = ("logit_scale",)
"""CLIP's own rule for its temperature: decaying log(1/τ) would soften every loss for no gain in simplicity."""


def sgd_step(
    heads: Mapping[str, Tensor],
    momenta: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor | None],
    *,
    learning_rate: Float[Tensor, "runs"],
    weight_decay: Float[Tensor, "runs"],
    momentum: float,
) -> None:
    """One step as ``torch.optim.SGD`` takes it, then CLIP's clamp of the temperature. Changes heads and momenta.

    Args:
        heads: what is trained, each [runs, ...].
        momenta: of the same names and shapes; zeros before the first step.
        gradients: of the same names; a head that no loss reached has None and is left as it is.
    """
    for name, gradient in gradients.items():
        if gradient is None:
            continue
        head, velocity = heads[name], momenta[name]
        by_run = (-1, *(1,) * (head.ndim - 1))
        torch.add(gradient, velocity, alpha=momentum, out=velocity)
        if name not in UNDECAYED:
            velocity.addcmul_(head, weight_decay.view(by_run))
        head.addcmul_(velocity, learning_rate.view(by_run), value=-1)
        if name == "logit_scale":
            head.clamp_(max=MAX_LOG_SCALE)
