"""Attention-gradient relevance (Chefer, Gur, Wolf 2021, "Generic attention-model explainability", Eqs. 5 and 6)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from despur.backbones.heads import Heads
from despur.backbones.protocol import AttentionPass, Backbone
from despur.explain.gradcam import BATCH_ELEMENTS, feature_gradients, flatten_runs
from despur.explain.maps import scale_maps
from despur.explain.method import MapMethod, attentive

__all__ = ["RELEVANCE", "relevance", "relevance_method"]


def relevance(
    attentions: tuple[Float[Tensor, "images heads tokens tokens"], ...],
    gradients: tuple[Float[Tensor, "*more images heads tokens tokens"], ...],
    reading: Float[Tensor, "images tokens"],
) -> Float[Tensor, "*more images tokens"]:
    """How relevant each token is to what the pooling reads, by the paper's Eqs. 5 and 6.

    R begins as the identity; in each block, R becomes R + A R with A the mean over heads of the positive part of
    gradient × attention. Only the rows that are read are ever kept, and so the product is taken from the last block
    on: the same sum with vectors in the place of matrices.

    Args:
        attentions: of consecutive blocks, the last one last.
        gradients: of a score by them.
        reading: how much of each token the pooling reads; rows sum to 1.
    """
    rows = reading.expand(*gradients[0].shape[:-4], *reading.shape).unsqueeze(-2)
    for attention, gradient in zip(reversed(attentions), reversed(gradients), strict=True):
        rows = rows + rows @ (gradient.float() * attention.detach().float()).relu().mean(-3)
    return rows.squeeze(-2)


def relevance_method(blocks: int | None = 1) -> MapMethod[AttentionPass]:
    """Relevance through the last ``blocks`` blocks; None: all of them.

    One block is what the authors' own code takes for CLIP. It costs one forward pass and one block's backward passes;
    with all blocks the whole encoder is differentiated once a class.
    """

    def see(backbone: Backbone, pixels: Float[Tensor, "images 3 height width"]) -> AttentionPass:
        transformer = attentive(backbone, "relevance")
        keep = transformer.blocks() if blocks is None else blocks
        return transformer.attend(pixels, keep=keep, differentiable=True)

    return MapMethod("relevance", "attention-gradient relevance", see, _maps)


def _maps(
    backbone: Backbone, heads: Heads, seen: AttentionPass, classes: Float[Tensor, "*runs classes dim"] | None
) -> Float[Tensor, "*runs images classes height width"]:
    runs, flat = flatten_runs(heads, classes)
    cotangents = feature_gradients(flat, seen.features.detach().float())
    found = torch.cat([_of_some(seen, part) for part in _parts(cotangents.flatten(0, 1), seen)])
    maps = scale_maps(found[..., seen.prefix_tokens :]).unflatten(0, cotangents.shape[:2]).transpose(1, 2)
    return maps.reshape(*runs, *maps.shape[1:3], *seen.grid)


def _parts(
    cotangents: Float[Tensor, "count images d_image"], seen: AttentionPass
) -> Iterator[Float[Tensor, "some images d_image"]]:
    """As many classes at once as memory allows."""
    elements = sum(attention.numel() for attention in seen.attentions)
    yield from cotangents.split(max(1, BATCH_ELEMENTS // elements))


def _of_some(
    seen: AttentionPass, cotangents: Float[Tensor, "some images d_image"]
) -> Float[Tensor, "some images tokens"]:
    gradients = torch.autograd.grad(
        seen.features,
        seen.attentions,
        cotangents.to(seen.features.dtype),
        retain_graph=True,
        is_grads_batched=True,
    )
    return relevance(seen.attentions, gradients, seen.reading)


RELEVANCE = relevance_method()
