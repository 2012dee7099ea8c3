"""A backbone put together from two towers, whichever library they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from despur.backbones.digest import weights_digest
from despur.backbones.geometry import Framing
from despur.backbones.protocol import LayerOutput
from despur.backbones.tokens import Tokenizer, tokenize_whole
from despur.backbones.towers.tower import ImageTower, Place, TextTower, identity_heads
from despur.errors import SettingsError, nearest
from despur.workspace import fingerprint

TRAINABLE = ("projection", "attention-pool")

SCALARS = ("logit_scale", "logit_bias")
"""Heads that every library calls by the same name."""


def check_trainable(trainable: str, *, has_pool: bool, spec: str) -> None:
    """Whether a model has the part that is to be trained.

    Raises:
        SettingsError: ``trainable`` is unknown, or asks for an attention pool where there is none.
    """
    if trainable not in TRAINABLE:
        raise SettingsError(f"there is no trainable part {trainable!r}", where=spec, now=nearest(trainable, TRAINABLE))
    if trainable == "attention-pool" and not has_pool:
        raise SettingsError(
            "the model has no attention pool to train", where=spec, now="leave out --trainable attention-pool"
        )


class TowerBackbone:
    """Two towers, a tokenizer and a preprocessing behind the backbone protocol.

    The model's weights are used where they are, not copied; it is switched to evaluation and its gradients off.

    Args:
        model: the whole model, which the towers are parts of.
        image, text: its towers.
        tokenizer: the model's own.
        transform: an RGB image to the encoder's input.
        framing: what ``transform`` does with an image's geometry.
        preprocessing: ``transform`` in words, for the fingerprint.
        context_length: tokens that the text tower reads.
        spec: how the user named the model.
        trainable: one of ``TRAINABLE`` (METHOD section 2).
    """

    def __init__(
        self,
        model: nn.Module,
        image: ImageTower,
        text: TextTower,
        *,
        tokenizer: Tokenizer,
        transform: Callable[[Image.Image], Tensor],
        framing: Framing,
        preprocessing: str,
        context_length: int,
        spec: str,
        trainable: str,
    ) -> None:
        self.spec = spec
        self.trainable = trainable
        self.model: Any = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.framing = framing
        self.context_length = context_length
        self.device = next(model.parameters()).device
        self.preprocessing = preprocessing
        self._image, self._texts = image, text
        self._transform = transform

    def fingerprint(self) -> str:
        """Hexadecimal digest over the weights, the structure around them, preprocessing, tokens and trained part."""
        probe = self.tokenizer(["A quick brown Fox's 23 photos, jpeg!"], context_length=self.context_length)
        return fingerprint(
            weights_digest(self.model),
            {"preprocess": self.preprocessing, "trainable": self.trainable, "probe": probe.tolist()},
        )

    def places(self) -> dict[str, Place]:
        """Where the model keeps each head that it has; a head without a place is one that despur has added."""
        own = dict(self.model.named_parameters())
        scalars = {name: Place(name) for name in SCALARS if name in own}
        return {**self._image.places, **self._texts.places, **scalars}

    def heads(self) -> dict[str, Tensor]:
        """A fresh copy of the pre-trained heads, float32 (``pool.heads`` an integer), on the CPU.

        A tower without a projection gets the identity.
        """
        own = dict(self.model.named_parameters())
        heads = {name: place.read(own) for name, place in self.places().items()}
        heads |= {name: heads[name].reshape(()) for name in SCALARS if name in heads}
        heads |= self._image.constants
        heads |= {**identity_heads(self._image, "image"), **identity_heads(self._texts, "text")}
        return {
            name: value.detach().to("cpu", torch.float32 if value.is_floating_point() else value.dtype, copy=True)
            for name, value in heads.items()
        }

    def preprocess(self, image: Image.Image) -> Float[Tensor, "3 height width"]:
        """An RGB image to the encoder's input: the library's own evaluation transform."""
        return self._transform(image)

    @torch.no_grad()
    def image_features(self, pixels: Float[Tensor, "images 3 height width"]) -> Tensor:
        """Features before the projection: [images, d_image], or [images, channels, h, w] where the pool is trained."""
        return self._image.features(pixels)

    def tokenize(self, texts: list[str]) -> Int[Tensor, "texts context"]:
        """The model's own tokens.

        Raises:
            ModelError: a text is longer than the model's context.
        """
        return tokenize_whole(self.tokenizer, texts, self.context_length, self.spec)

    @torch.no_grad()
    def text_features(self, tokens: Int[Tensor, "texts context"]) -> Float[Tensor, "texts d_text"]:
        """Features before the text projection."""
        return self._texts.features(tokens)

    @torch.no_grad()
    def trunk(self, pixels: Float[Tensor, "images 3 height width"]) -> LayerOutput:
        """The encoder up to the explained layer, without gradients."""
        return self._image.trunk(pixels)

    def finish(self, output: LayerOutput, shift: Float[Tensor, "images channels"] | None = None) -> Tensor:
        """The rest of the encoder, differentiable; a ResNet whose attention pool is trained has no rest."""
        return self._image.finish(output, shift)
