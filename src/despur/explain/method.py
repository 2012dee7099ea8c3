"""What a way of making explanation maps is: one pass through the encoder, and maps of any number of models from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

from despur.backbones.heads import Heads
from despur.backbones.protocol import Attentive, Backbone
from despur.errors import ModelError
from despur.explain.gradcam import explained_classes

__all__ = ["MapMethod", "attentive"]

Pass = TypeVar("Pass")


@dataclass(frozen=True)
class MapMethod(Generic[Pass]):
    """One way of making maps.

    Attributes:
        name: on the command line and in files.
        title: how it is printed.
        see: the pass through the frozen encoder, which all models that are compared share.
        maps: maps [*runs, images, classes, height, width] in [0, 1] at the layer's resolution, from that pass, one
            model's heads or a stack, and :func:`~despur.explain.gradcam.explained_classes`.
        transformer_only: it reads attention or tokens, which a ResNet does not have.
    """

    name: str
    title: str
    see: Callable[[Backbone, Float[Tensor, "images 3 height width"]], Pass]
    maps: Callable[[Backbone, Heads, Pass, Tensor | None], Float[Tensor, "*runs images classes height width"]]
    transformer_only: bool = True

    def check(self, backbone: Backbone) -> None:
        """Refuse a model that the method means nothing on.

        Raises:
            ModelError: the method needs a vision transformer and this is none.
        """
        if self.transformer_only:
            attentive(backbone, self.name)

    def class_maps(
        self,
        backbone: Backbone,
        heads: Heads,
        pixels: Float[Tensor, "images 3 input_height input_width"],
        prompts: Float[Tensor, "templates classes d_text"],
    ) -> Float[Tensor, "*runs images classes height width"]:
        """Maps of every class for one model or a stack, from the pixels on."""
        self.check(backbone)
        return self.maps(backbone, heads, self.see(backbone, pixels), explained_classes(heads, prompts))


def attentive(backbone: Backbone, method: str) -> Attentive:
    """The backbone as one that shows its attention.

    Raises:
        ModelError: it has none to show.
    """
    if not isinstance(backbone, Attentive) or backbone.blocks() == 0:
        raise ModelError(
            f"{method} reads the attention of a vision transformer, and this image tower shows none",
            where=backbone.spec,
            now="use --method gradcam",
        )
    return backbone
