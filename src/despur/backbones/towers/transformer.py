"""open_clip's VisionTransformer in two halves, cut behind the first LayerNorm of its last block."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from despur.backbones.protocol import LayerOutput
from despur.backbones.towers.tower import Place
from despur.backbones.towers.views import without

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


def end_in_float32(visual: VisionTransformer) -> VisionTransformer:
    """A tower whose last block and pooling are float32 copies, for :func:`finish`; other weights are shared.

    A tower that is float32 already is given back as it is. Grad-CAM subtracts channels that nearly cancel: in a
    bfloat16 model most of what its maps lose is lost in this end, and widening it costs one block's weights.
    """
    if visual.ln_post.weight.dtype == torch.float32:
        return visual
    end = copy.copy(visual)
    end._modules = dict(visual._modules)
    end._modules["transformer"] = body = copy.copy(visual.transformer)
    body._modules = {"resblocks": nn.ModuleList([copy.deepcopy(visual.transformer.resblocks[-1]).float()])}
    for name in ("ln_post", "attn_pool", "attn_pool_contrastive"):
        part = getattr(visual, name, None)
        if isinstance(part, nn.Module):
            end._modules[name] = copy.deepcopy(part).float()
    return end


def reads_class_token_only(visual: VisionTransformer) -> bool:
    """Whether the pooling takes the class token alone, so that the last block need not finish the others."""
    last = visual.transformer.resblocks[-1]
    return type(last) is ResidualAttentionBlock and visual.attn_pool is None and visual.pool_type == "tok"


def finish_class_token(
    visual: VisionTransformer,
    normed: Float[Tensor, "images tokens channels"],
    stream: Float[Tensor, "images tokens channels"],
    shift: Float[Tensor, "images channels"],
) -> Float[Tensor, "images d_image"]:
    """:func:`finish` for a pooling that reads the class token, with a shift added to every other token.

    The shift moves the keys and the values of the grid by one vector each. So a grid token's score moves by the query's
    product with the keys' shift, and the result by the values' shift times the attention that the grid gets: the
    shift's gradient costs a few vectors an image and not a matrix of tokens.
    """
    last: Any = visual.transformer.resblocks[-1]
    attention = last.attn
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)

    def split(part: int, inputs: Tensor, *, bias: bool = True) -> Tensor:
        projected = F.linear(inputs, weights[part], biases[part] if bias else None)
        return projected.unflatten(-1, (attention.num_heads, -1)).transpose(-2, -3)

    moved = shift.unsqueeze(1)
    query = split(0, normed[:, :1]) / attention.head_dim**0.5
    scores = query @ split(1, normed).mT
    grid_scores = scores[..., 1:] + query @ split(1, moved, bias=False).mT
    weighting = torch.cat([scores[..., :1], grid_scores], dim=-1).softmax(-1)
    on_grid = weighting[..., 1:].sum(-1, keepdim=True)
    attended = weighting @ split(2, normed) + on_grid * split(2, moved, bias=False)
    token = stream[:, :1] + last.ls_1(attention.out_proj(attended.transpose(1, 2).flatten(2)))
    token = token + last.ls_2(last.mlp(last.ln_2(token)))
    pooled, _ = visual._pool(token)
    return pooled


class TransformerTower:
    """A VisionTransformer of open_clip's own as an image tower."""

    constants: Mapping[str, Tensor] = {}

    def __init__(self, visual: VisionTransformer) -> None:
        self.visual = visual
        self._bare: Any = without(visual, "proj")
        self._bare.output_tokens = False
        self.width = int(self._bare.ln_post.weight.numel())

    @property
    def places(self) -> Mapping[str, Place]:
        """The projection, which open_clip keeps transposed; nothing where there is none."""
        return {} if self.visual.proj is None else {"image.weight": Place("visual.proj", transposed=True)}

    def features(self, pixels: Float[Tensor, "images 3 height width"]) -> Tensor:
        """Features [images, d_image] in front of the projection."""
        return self._bare(pixels)

    def trunk(self, pixels: Float[Tensor, "images 3 height width"]) -> LayerOutput:
        """Up to the last block's first LayerNorm (METHOD section 4)."""
        return trunk(self.visual, pixels)

    def finish(self, output: LayerOutput, shift: Float[Tensor, "images channels"] | None = None) -> Tensor:
        """In float32, whatever the rest of the tower is in."""
        output = output.in_float32()
        assert output.residual is not None, "a vision transformer's trunk keeps its residual stream"
        visual = end_in_float32(self.visual)
        if shift is None:
            return finish(visual, output.activations, output.residual)
        if reads_class_token_only(visual):
            return finish_class_token(visual, output.activations, output.residual, shift)
        return finish(visual, output.shifted(shift).activations, output.residual)
