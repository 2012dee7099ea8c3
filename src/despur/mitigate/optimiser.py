"""SGD with momentum over stacked heads, in place: every run with a learning rate and a weight decay of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.sgd import sgd

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
    reached = {name: gradient for name, gradient in gradients.items() if gradient is not None}
    for decays in (True, False):
        names = [name for name in reached if (name not in UNDECAYED) is decays]
        moved = [(heads[name], momenta[name], reached[name]) for name in names]
        decay = weight_decay if decays else torch.zeros_like(weight_decay)
        take = _step_by_run if learning_rate.device.type == "cpu" else _step_together
        take(moved, learning_rate, decay, momentum)
    if "logit_scale" in reached:
        heads["logit_scale"].clamp_(max=MAX_LOG_SCALE)


Moved = Sequence[tuple[Tensor, Tensor, Tensor]]
"""Heads with their momenta and gradients, all [runs, ...]."""


def _step_by_run(moved: Moved, learning_rate: Tensor, weight_decay: Tensor, momentum: float) -> None:
    """Torch's own fused step, a run at a time: on a CPU it goes over memory once, where plain operations go thrice."""
    if not moved:
        return
    for run, (rate, decay) in enumerate(zip(learning_rate.tolist(), weight_decay.tolist(), strict=True)):
        sgd(
            [head[run] for head, _, _ in moved],
            [gradient[run].contiguous() for _, _, gradient in moved],
            [velocity[run] for _, velocity, _ in moved],
            fused=True,
            weight_decay=decay,
            momentum=momentum,
            lr=rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )


def _step_together(moved: Moved, learning_rate: Tensor, weight_decay: Tensor, momentum: float) -> None:
    """All runs in one operation: on a GPU what counts is how many are launched."""
    for head, velocity, gradient in moved:
        by_run = (-1, *(1,) * (head.ndim - 1))
        torch.add(gradient, velocity, alpha=momentum, out=velocity)
        velocity.addcmul_(head, weight_decay.view(by_run))
        head.addcmul_(velocity, learning_rate.view(by_run), value=-1)
