"""SGD with momentum over stacked heads, in place: every run with a learning rate and a weight decay of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from despur.backbones.heads import MAX_LOG_SCALE

CACHED = 1 << 17
"""Numbers of each tensor in a piece: with three tensors 1.5 MB in single precision."""

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
        for head, velocity, pushed in _pieces(heads[name], momenta[name], gradient):
            by_run = (-1, *(1,) * (head.ndim - 1))
            torch.add(pushed, velocity, alpha=momentum, out=velocity)
            if name not in UNDECAYED:
                velocity.addcmul_(head, weight_decay.view(by_run))
            head.addcmul_(velocity, learning_rate.view(by_run), value=-1)
        if name == "logit_scale":
            heads[name].clamp_(max=MAX_LOG_SCALE)


def _pieces(*of_head: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Views of tensors of one shape [runs, ...]; on a CPU cut so small that they stay in its cache as they change."""
    runs, own = of_head[0].shape[0], of_head[0][0].numel()
    length = max(1, CACHED // runs)
    if of_head[0].device.type != "cpu" or own <= length or not all(tensor.is_contiguous() for tensor in of_head):
        return [of_head]
    return zip(*(tensor.view(runs, own).split(length, dim=1) for tensor in of_head), strict=True)
