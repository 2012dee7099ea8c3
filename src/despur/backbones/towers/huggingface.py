"""transformers' CLIP, SigLIP and SigLIP 2 in two halves, and without their projections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import CLIPModel, Siglip2Model, SiglipModel

from despur.backbones.protocol import AttentionPass, LayerOutput
from despur.backbones.towers.tower import Place

HuggingFaceModel = CLIPModel | SiglipModel | Siglip2Model


def patches(
    pixels: Float[Tensor, "images 3 height width"], side: int
) -> Float[Tensor, "images positions patch_values"]:
    """Images cut into squares of ``side`` pixels, row by row, each flattened as SigLIP 2 wants it (channels last)."""
    rows = pixels.unfold(2, side, side).unfold(3, side, side)  # [images, 3, rows, columns, side, side]
    return rows.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)


class HuggingFaceImage:
    """The image tower of one of transformers' models.

    SigLIP 2 in its form for any aspect ratio (``Siglip2Model``) is given squares that fill its patches: the store holds
    one shape, and a map has one grid.

    Args:
        model: the whole model.
        grid: (rows, columns) of patches in an image.
    """

    constants: Mapping[str, Tensor] = {}

    def __init__(self, model: HuggingFaceModel, grid: tuple[int, int]) -> None:
        self.grid = grid
        self._clip = isinstance(model, CLIPModel)
        self._tower: Any = model.vision_model
        config: Any = model.config
        self._patch = int(config.vision_config.patch_size) if isinstance(model, Siglip2Model) else None
        self._layers: Any = self._tower.encoder.layers
        self.width = int(config.vision_config.hidden_size)

    @property
    def places(self) -> Mapping[str, Place]:
        """CLIP's projection; SigLIP's image tower has none."""
        return {"image.weight": Place("visual_projection.weight")} if self._clip else {}

    def features(self, pixels: Float[Tensor, "images 3 height width"]) -> Tensor:
        """Features [images, d_image] in front of the projection."""
        return self.finish(self.trunk(pixels))

    def trunk(self, pixels: Float[Tensor, "images 3 height width"]) -> LayerOutput:
        """Up to the last block's first LayerNorm (METHOD section 4), with the stream that bypasses it."""
        if self._patch is None:
            stream = self._tower.embeddings(pixels)
        else:
            shapes = torch.tensor([self.grid], device=pixels.device).expand(len(pixels), 2)
            stream = self._tower.embeddings(patches(pixels, self._patch), shapes)
        if self._clip:
            stream = self._tower.pre_layrnorm(stream)
        for layer in self._layers[:-1]:
            stream = layer(stream, None)
        normed = self._layers[-1].layer_norm1(stream)
        return LayerOutput(normed, residual=stream, grid=self.grid, prefix_tokens=int(self._clip))

    def finish(self, output: LayerOutput, shift: Float[Tensor, "images channels"] | None = None) -> Tensor:
        """The last block's attention and MLP, then CLIP's class token or SigLIP's attention pooling."""
        if shift is not None:
            output = output.shifted(shift)
        last: Any = self._layers[-1]
        stream: Any = output.residual
        attended, _ = last.self_attn(hidden_states=output.activations, attention_mask=None)
        stream = stream + attended
        stream = stream + last.mlp(last.layer_norm2(stream))
        if self._clip:
            return self._tower.post_layernorm(stream[:, 0])
        return self._tower.head(self._tower.post_layernorm(stream))

    @property
    def attentive_blocks(self) -> int:
        """How many blocks :meth:`attend` can show; 0 for SigLIP, whose pooling reads by an attention of its own."""
        return len(self._layers) if self._clip else 0

    def attend(
        self, pixels: Float[Tensor, "images 3 height width"], *, keep: int, differentiable: bool
    ) -> AttentionPass:
        """CLIP's whole tower up to its projection; of the last ``keep`` blocks the attention is kept.

        As with open_clip's towers, a kept attention is a leaf of the graph in the first kept block only.
        """
        cut = len(self._layers) - keep
        with torch.no_grad():
            stream = self._tower.pre_layrnorm(self._tower.embeddings(pixels))
            for layer in self._layers[:cut]:
                stream = layer(stream, None)
        attentions: list[Tensor] = []
        with torch.set_grad_enabled(differentiable):
            for layer in self._layers[cut:]:
                stream, attention = _attending(layer, stream, differentiable=differentiable)
                attentions.append(attention)
            tokens = self._tower.post_layernorm(stream)
        reading = stream.new_zeros(stream.shape[:2], dtype=torch.float32)
        reading[:, 0] = 1
        return AttentionPass(
            attentions=tuple(attentions),
            features=tokens[:, 0],
            tokens=tokens[:, 1:].detach(),
            reading=reading,
            grid=self.grid,
            prefix_tokens=1,
        )


def _attending(
    layer: Any, stream: Float[Tensor, "images tokens channels"], *, differentiable: bool
) -> tuple[Float[Tensor, "images tokens channels"], Float[Tensor, "images heads tokens tokens"]]:
    """One block, with its attention in the open whatever implementation the model was loaded with."""
    attention = layer.self_attn
    normed = layer.layer_norm1(stream)
    query, key, value = (
        projection(normed).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    probabilities = (query @ key.mT * attention.scale).softmax(-1)
    if differentiable and not probabilities.requires_grad:
        probabilities.requires_grad_()
    stream = stream + attention.out_proj((probabilities @ value).transpose(1, 2).flatten(2))
    return stream + layer.mlp(layer.layer_norm2(stream)), probabilities


class HuggingFaceText:
    """The text tower of one of transformers' models."""

    def __init__(self, model: HuggingFaceModel) -> None:
        self._clip = isinstance(model, CLIPModel)
        self._tower: Any = model.text_model
        config: Any = model.config
        self.width = int(config.text_config.hidden_size)

    @property
    def places(self) -> Mapping[str, Place]:
        """CLIP's projection, or SigLIP's with its bias."""
        if self._clip:
            return {"text.weight": Place("text_projection.weight")}
        return {f"text.{kind}": Place(f"text_model.head.{kind}") for kind in ("weight", "bias")}

    def features(self, tokens: Int[Tensor, "texts context"]) -> Float[Tensor, "texts d_text"]:
        """Features in front of the projection."""
        output = self._tower(input_ids=tokens)
        # SigLIP reads the last token, whatever it is, and its tower goes on to the projection.
        return output.pooler_output if self._clip else output.last_hidden_state[:, -1]
