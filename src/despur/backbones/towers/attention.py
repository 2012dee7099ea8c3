"""open_clip's VisionTransformer with its attention in the open."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor

from despur.backbones.protocol import AttentionPass

# As in ``transformer``: open_clip has no public name for the embedding.
# pyright: reportPrivateUsage=false


def shows_attention(visual: VisionTransformer) -> bool:
    """Whether every block is open_clip's plain one and the pooling reads the class token or the mean."""
    plain = all(type(block) is ResidualAttentionBlock for block in visual.transformer.resblocks)
    return plain and visual.attn_pool is None


def attend(
    visual: VisionTransformer, pixels: Float[Tensor, "images 3 height width"], *, keep: int, differentiable: bool
) -> AttentionPass:
    """The whole tower up to its projection; of the last ``keep`` blocks the attention is kept.

    The other blocks run as they come. A kept attention is a leaf of the graph in the first kept block, and depends on
    the attention before it in the others, so that a gradient by any of them is the whole one.
    """
    blocks: list[Any] = list(visual.transformer.resblocks)
    cut = len(blocks) - keep
    with torch.no_grad():
        stream = visual._embeds(pixels)
        for block in blocks[:cut]:
            stream = block(stream)
    attentions: list[Tensor] = []
    with torch.set_grad_enabled(differentiable):
        for block in blocks[cut:]:
            stream, attention = _block(block, stream, differentiable=differentiable)
            attentions.append(attention)
        features, tokens = _pool(visual, stream)
    return AttentionPass(
        attentions=tuple(attentions),
        features=features,
        tokens=tokens.detach(),
        reading=_reading(visual, stream),
        grid=visual.grid_size,
        prefix_tokens=1,
    )


def _block(
    block: Any, stream: Float[Tensor, "images tokens channels"], *, differentiable: bool
) -> tuple[Float[Tensor, "images tokens channels"], Float[Tensor, "images heads tokens tokens"]]:
    attention = block.attn
    projected = F.linear(block.ln_1(stream), attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = (
        part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in projected.chunk(3, -1)
    )
    probabilities = (query @ key.mT / attention.head_dim**0.5).softmax(-1)
    if differentiable and not probabilities.requires_grad:
        probabilities.requires_grad_()
    attended = (probabilities @ value).transpose(1, 2).flatten(2)
    stream = stream + block.ls_1(attention.out_proj(attended))
    return stream + block.ls_2(block.mlp(block.ln_2(stream))), probabilities


def _pool(visual: VisionTransformer, stream: Tensor) -> tuple[Tensor, Tensor]:
    """The pooled features, and every grid token's own."""
    pooled, _ = visual._pool(stream)
    return pooled, visual.ln_post(stream[:, 1:])


def _reading(visual: VisionTransformer, stream: Tensor) -> Float[Tensor, "images tokens"]:
    """The class token alone, or every token of the grid alike."""
    reading = stream.new_zeros(stream.shape[:2], dtype=torch.float32)
    if visual.pool_type == "avg":
        reading[:, 1:] = 1 / (stream.shape[1] - 1)
    else:
        reading[:, 0] = 1
    return reading
