"""open_clip's text towers: CLIP's own inside the model, the custom one beside it, and transformers' encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float, Int
from open_clip.hf_model import HFTextEncoder
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from despur.backbones.towers.tower import Place, linear_places
from despur.backbones.towers.views import exchanged, without


class ClipText:
    """The text tower of a ``CLIP``, whose parts lie in the model itself, or the TextTransformer of a CustomTextCLIP."""

    def __init__(self, model: CLIP | CustomTextCLIP) -> None:
        inside = isinstance(model, CLIP)
        self._prefix = "" if inside else "text."
        self._text: Any = model if inside else model.text
        self._bare: Any = without(self._text, "text_projection")
        self._bare.output_tokens = False
        self.width = int(self._text.ln_final.weight.numel())

    @property
    def places(self) -> Mapping[str, Place]:
        """The projection, in either of the two ways in which open_clip keeps it; nothing where there is none."""
        name, projection = f"{self._prefix}text_projection", self._text.text_projection
        if projection is None:
            return {}
        if isinstance(projection, nn.Linear):
            return linear_places("text", name, projection)
        return {"text.weight": Place(name, transposed=True)}

    def features(self, tokens: Int[Tensor, "texts context"]) -> Float[Tensor, "texts d_text"]:
        """Features in front of the projection."""
        return self._bare(tokens) if isinstance(self._text, TextTransformer) else self._bare.encode_text(tokens)


def projection_path(text: HFTextEncoder) -> str | None:
    """Name of the linear layer that maps the encoder's features to the joint space; None: there is none."""
    if isinstance(text.proj, nn.Linear):
        return "proj"
    return "proj.2" if isinstance(text.proj, nn.Sequential) else None


class EncoderText:
    """A transformers encoder (RoBERTa, mT5, ...) in the place of CLIP's text tower."""

    def __init__(self, text: HFTextEncoder) -> None:
        self._text: Any = text
        self._path = projection_path(text)
        self._bare: Any = exchanged(text, self._path, nn.Identity()) if self._path else without(text)
        self._bare.output_tokens = False
        self.width = int(text.get_submodule(self._path).in_features if self._path else text.output_dim)  # pyright: ignore[reportArgumentType]

    @property
    def places(self) -> Mapping[str, Place]:
        """The linear layer that leads to the joint space; nothing where there is none."""
        if self._path is None:
            return {}
        return linear_places("text", f"text.{self._path}", self._text.get_submodule(self._path))

    def features(self, tokens: Int[Tensor, "texts context"]) -> Float[Tensor, "texts d_text"]:
        """Features in front of that layer."""
        return self._bare(tokens)
