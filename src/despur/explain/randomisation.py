"""The model-randomisation check (Adebayo et al. 2018, "Sanity checks for saliency maps"): a map that stays the same
when what was learnt is thrown away does not show what was learnt.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from despur.backbones.heads import Heads

__all__ = ["map_agreement", "randomised"]

IMAGE_SIDE = ("adapter", "image", "pool", "probe")
"""What names of heads that an image goes through start with."""


def randomised(heads: Heads, generator: torch.Generator) -> dict[str, Tensor]:
    """Heads whose image side is shuffled: each tensor keeps its values, and they say nothing any more.

    Shuffling and not drawing anew keeps every tensor's scale, whatever training has made of it. The text side stays, so
    that the classes mean what they meant.

    Args:
        generator: on the CPU.
    """
    return {
        name: _shuffled(tensor, generator) if name.split(".")[0] in IMAGE_SIDE else tensor
        for name, tensor in heads.items()
    }


def _shuffled(tensor: Tensor, generator: torch.Generator) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
    return tensor.flatten()[order].reshape(tensor.shape)


def map_agreement(
    maps: Float[Tensor, "*more height width"], others: Float[Tensor, "*more height width"]
) -> Float[Tensor, "*more"]:
    """Spearman's rank correlation of two maps over their cells, in [-1, 1]; equal values share their mean rank.

    Two maps without any contrast are the same map: 1. One with and one without have nothing in common: 0.
    """
    first, second = _centred_ranks(maps), _centred_ranks(others)
    lengths = first.norm(dim=-1), second.norm(dim=-1)
    scale = lengths[0] * lengths[1]
    correlation = (first * second).sum(-1) / torch.where(scale > 0, scale, 1.0)
    flat = (lengths[0] == 0) & (lengths[1] == 0)
    return torch.where(flat, torch.ones_like(correlation), correlation).clamp(-1, 1)


def _centred_ranks(maps: Float[Tensor, "*more height width"]) -> Float[Tensor, "*more cells"]:
    """How many cells are lower minus how many are higher: twice the rank, counted from the mean rank."""
    cells = maps.flatten(-2)
    below, above = cells.unsqueeze(-1) > cells.unsqueeze(-2), cells.unsqueeze(-1) < cells.unsqueeze(-2)
    return below.sum(-1).to(maps.dtype) - above.sum(-1).to(maps.dtype)
