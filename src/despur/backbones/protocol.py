"""What despur asks of a CLIP-like model, and nothing more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from despur.backbones.geometry import Framing


@dataclass(frozen=True)
class LayerOutput:
    """The explained layer's output, and what the rest of the encoder needs beside it.

    Attributes:
        activations: what Grad-CAM differentiates: [images, channels, height, width] for a ResNet's last stage,
            [images, tokens, channels] for the first LayerNorm of a transformer's last block.
        residual: the stream that bypasses that LayerNorm, [images, tokens, channels]; None for a ResNet.
        grid: (rows, columns) that the spatial positions are laid out in.
        prefix_tokens: tokens that come before the grid (the class token, registers); 0 for a ResNet.
    """

    activations: Tensor
    residual: Tensor | None
    grid: tuple[int, int]
    prefix_tokens: int = 0

    def spatial(self, values: Tensor) -> Float[Tensor, "*more channels height width"]:
        """Lay ``activations`` (or a gradient of its shape) out as a map, prefix tokens dropped."""
        if self.residual is None:
            return values
        return values[..., self.prefix_tokens :, :].mT.unflatten(-1, self.grid)

    def in_float32(self) -> LayerOutput:
        """This output with its tensors widened; itself where they are float32 already."""
        residual = None if self.residual is None else self.residual.float()
        return replace(self, activations=self.activations.float(), residual=residual)

    def shifted(self, shift: Float[Tensor, "images channels"]) -> LayerOutput:
        """This output with one vector an image added at every position of the grid, prefix tokens left alone."""
        if self.residual is None:
            return replace(self, activations=self.activations + shift[..., None, None])
        prefix, grid = self.activations.tensor_split([self.prefix_tokens], dim=1)
        return replace(self, activations=torch.cat([prefix, grid + shift.unsqueeze(1)], dim=1))


@dataclass(frozen=True)
class AttentionPass:
    """One pass through a vision transformer that keeps its attention.

    Attributes:
        attentions: softmax of each kept block, first block first: [images, heads, tokens, tokens], rows sum to 1.
        features: as :meth:`Backbone.image_features`; differentiable by those attentions, where that was asked for.
        tokens: what the pooling would give if it read one position of the grid alone: [images, positions, d_image].
        reading: how much the pooling reads of each token: [images, tokens], rows sum to 1.
        grid, prefix_tokens: as in :class:`LayerOutput`.
    """

    attentions: tuple[Tensor, ...]
    features: Float[Tensor, "images d_image"]
    tokens: Float[Tensor, "images positions d_image"]
    reading: Float[Tensor, "images tokens"]
    grid: tuple[int, int]
    prefix_tokens: int


@runtime_checkable
class Attentive(Protocol):
    """A backbone that can show its attention; only what explains a model asks for it."""

    def blocks(self) -> int:
        """How many transformer blocks the image encoder has; 0: it is none, or of a kind whose attention is hidden."""
        ...

    def attend(
        self, pixels: Float[Tensor, "images 3 height width"], *, keep: int, differentiable: bool = False
    ) -> AttentionPass:
        """The whole image encoder, keeping the attention of its last ``keep`` blocks.

        Args:
            differentiable: keep the graph from the first kept attention on.
        """
        ...


@runtime_checkable
class Backbone(Protocol):
    """A frozen image encoder and text encoder, with the heads that are trained taken off.

    ``project_images(heads(), image_features(x))`` equals the library's own ``encode_image(x)`` to 1e-5, and likewise
    for texts.
    """

    spec: str
    """How the user named it: ``open_clip:RN50/openai``."""
    framing: Framing
    """How an image is resized and cropped before the encoder sees it."""
    context_length: int
    device: torch.device

    def fingerprint(self) -> str:
        """Hexadecimal digest over weights, architecture and preprocessing."""
        ...

    def heads(self) -> dict[str, Tensor]:
        """A fresh copy of the pre-trained heads, float32, on the CPU."""
        ...

    def preprocess(self, image: Image.Image) -> Float[Tensor, "3 height width"]:
        """An RGB image to the encoder's input."""
        ...

    def image_features(self, pixels: Float[Tensor, "images 3 height width"]) -> Tensor:
        """Features before the projection: [images, d_image], or [images, channels, h, w] where the pool is trained."""
        ...

    def tokenize(self, texts: list[str]) -> Int[Tensor, "texts context"]:
        """The model's own tokens; a text that does not fit is an error that names it."""
        ...

    def text_features(self, tokens: Int[Tensor, "texts context"]) -> Float[Tensor, "texts d_text"]:
        """Features before the text projection."""
        ...

    def trunk(self, pixels: Float[Tensor, "images 3 height width"]) -> LayerOutput:
        """The encoder up to the explained layer, without gradients."""
        ...

    def finish(self, output: LayerOutput, shift: Float[Tensor, "images channels"] | None = None) -> Tensor:
        """The rest of the encoder, differentiable: ``finish(trunk(x))`` equals ``image_features(x)``.

        Args:
            shift: ``finish(output, shift)`` equals ``finish(output.shifted(shift))``. Given apart, because only the
                gradient of a shift is wanted for Grad-CAM, which can cost far less than the whole layer's: what is
                linear in the layer may be applied to the shift alone, once an image and not once a position.
        """
        ...
