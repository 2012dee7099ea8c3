"""open_clip's VisionTransformer in two halves, cut behind the first LayerNorm of its last block."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor

from despur.backbones.protocol import LayerOutput

# open_clip has no public name for a vision transformer's embedding and pooling; calling its own keeps us right for
# every pooling that it knows (class token, average, attentional, final norm before or after).
# pyright: reportPrivateUsage=false


def trunk(visual: VisionTransformer, pixels: Float[Tensor, "images 3 height width"]) -> LayerOutput:
    """Up to the last block's first LayerNorm (METHOD section 4), with the stream that bypasses it."""
    stream = visual._embeds(pixels)
    for block in visual.transformer.resblocks[:-1]:
        stream = block(stream)
    last: Any = visual.transformer.resblocks[-1]
    return LayerOutput(last.ln_1(stream), residual=stream, grid=visual.grid_size, prefix_tokens=1)


def finish(
    visual: VisionTransformer,
    normed: Float[Tensor, "images tokens channels"],
    stream: Float[Tensor, "images tokens channels"],
) -> Float[Tensor, "images d_image"]:
    """The last block's attention and MLP, then the pooling, up to the projection."""
    last: Any = visual.transformer.resblocks[-1]
    plain = isinstance(last, ResidualAttentionBlock)
    attended = last.attention(normed) if plain else last.ln_attn(last.attn(normed))
    stream = stream + last.ls_1(attended)
    stream = stream + last.ls_2(last.mlp(last.ln_2(stream)))
    pooled, _ = visual._pool(stream)
    return pooled
