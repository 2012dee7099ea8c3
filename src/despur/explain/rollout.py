"""Attention rollout (Abnar and Zuidema 2020, "Quantifying attention flow in transformers", Eq. 1)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from despur.backbones.heads import Heads
from despur.backbones.protocol import AttentionPass, Backbone
from despur.explain.gradcam import CLASSES, flatten_runs
from despur.explain.maps import scale_maps
from despur.explain.method import MapMethod, attentive

__all__ = ["ROLLOUT", "rollout"]


def rollout(
    attentions: tuple[Float[Tensor, "images heads tokens tokens"], ...], reading: Float[Tensor, "images tokens"]
) -> Float[Tensor, "images tokens"]:
    """How much of each input token reaches what the pooling reads; rows sum to 1.

    A block mixes tokens by half its attention (mean over heads) and half the identity, for the stream that passes it
    by; blocks multiply, the last one on the left.
    """
    rows = reading.unsqueeze(-2)
    for attention in reversed(attentions):
        rows = 0.5 * rows + 0.5 * rows @ attention.float().mean(-3)
    return rows.squeeze(-2)


def _see(backbone: Backbone, pixels: Float[Tensor, "images 3 height width"]) -> AttentionPass:
    transformer = attentive(backbone, "rollout")
    return transformer.attend(pixels, keep=transformer.blocks())


def _maps(
    backbone: Backbone, heads: Heads, seen: AttentionPass, classes: Float[Tensor, "*runs classes dim"] | None
) -> Float[Tensor, "*runs images classes height width"]:
    """The same map for every class and run: rollout reads no head at all, and its AIoU is 0.5 wherever it has one."""
    runs, flat = flatten_runs(heads, classes)
    count = flat["probe.weight" if "probe.weight" in flat else CLASSES].shape[1]
    maps = scale_maps(rollout(seen.attentions, seen.reading)[:, seen.prefix_tokens :]).unflatten(-1, seen.grid)
    return maps.unsqueeze(1).expand(*runs, -1, count, -1, -1)


ROLLOUT = MapMethod("rollout", "attention rollout", _see, _maps)
