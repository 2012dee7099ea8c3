"""Token-text similarity: each token of the grid, projected as the pooled features are, against each class."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from despur.backbones.heads import Heads, embed_images
from despur.backbones.protocol import AttentionPass, Backbone
from despur.explain.gradcam import CLASSES, flatten_runs
from despur.explain.maps import scale_maps
from despur.explain.method import MapMethod, attentive

__all__ = ["SIMILARITY"]


def _see(backbone: Backbone, pixels: Float[Tensor, "images 3 height width"]) -> AttentionPass:
    return attentive(backbone, "similarity").attend(pixels, keep=0)


def _maps(
    backbone: Backbone, heads: Heads, seen: AttentionPass, classes: Float[Tensor, "*runs classes dim"] | None
) -> Float[Tensor, "*runs images classes height width"]:
    """Cosine of token and class, or a probe's score of the token, scaled to [0, 1].

    CLIP is trained on its pooled token alone, and nothing makes the others answer to texts: in its larger models the
    background is often closer to the class than the object is. The map shows what the tokens say, not what the model
    decided by.
    """
    runs, flat = flatten_runs(heads, classes)
    images, positions, _ = seen.tokens.shape
    tokens = seen.tokens.float().flatten(0, 1)
    if "probe.weight" in flat:
        scores = F.linear(tokens, flat["probe.weight"].flatten(0, 1)).unflatten(-1, flat["probe.weight"].shape[:2])
        scores = scores.movedim(0, -1)
    else:
        scores = flat[CLASSES] @ embed_images(flat, tokens).mT
    maps = scale_maps(scores.unflatten(-1, (images, positions)).transpose(1, 2))
    return maps.reshape(*runs, *maps.shape[1:3], *seen.grid)


SIMILARITY = MapMethod("similarity", "token-text similarity", _see, _maps)
