"""Trained heads back in the model's own weights: blended with the old ones, and put where the model keeps them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from despur.backbones.assembled import SCALARS, TowerBackbone
from despur.backbones.heads import MAX_LOG_SCALE, Heads
from despur.errors import ModelError


def blended(before: Heads, after: Heads, share: float) -> dict[str, Tensor]:
    """(1 - share) of the heads that the model came with and ``share`` of the trained ones.

    The encoders are the same on both sides, so this blends the whole models' weights.

    Args:
        share: in [0, 1]; 0 gives the model that it was, 1 the trained one.
    """
    return {
        name: torch.lerp(before[name], head, share) if name in before and head.is_floating_point() else head
        for name, head in after.items()
    }


def without_place(backbone: TowerBackbone, heads: Heads) -> dict[str, Tensor]:
    """The projections that the model keeps nowhere and cannot do without: those added by despur that are no identity.

    Raises:
        ModelError: the heads hold parts that no CLIP model has: a probe, an adapter, vectors in place of the text side.
    """
    foreign = sorted({name.partition(".")[0] for name in heads} - {"image", "text", "pool", *SCALARS})
    if foreign:
        raise ModelError(
            f"its method gives the model a part of its own ({', '.join(foreign)}), for which a "
            "CLIP checkpoint has no place",
            where=backbone.spec,
            now="export it with --to heads, or export another method",
        )
    places = backbone.places()
    return {
        name: head
        for name, head in heads.items()
        if name not in places and head.is_floating_point() and not _is_identity(head)
    }


def _is_identity(head: Tensor) -> bool:
    square = head.ndim == 2 and head.shape[0] == head.shape[1]
    return square and torch.equal(head.cpu(), torch.eye(len(head), dtype=head.dtype))


def placed(backbone: TowerBackbone, heads: Heads) -> dict[str, Tensor]:
    """The whole model's state dict, on the CPU, with these heads in their places.

    The temperature is clamped as despur clamps it (METHOD section 2); libraries take the weight as it is.
    """
    state: Mapping[str, Tensor] = backbone.model.state_dict()
    whole = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    for name, place in backbone.places().items():
        if name not in heads:
            continue
        head = heads[name].detach().cpu()
        head = head.clamp(max=MAX_LOG_SCALE) if name == "logit_scale" else head
        whole[place.name] = place.shaped(head, whole[place.name])
    return whole
