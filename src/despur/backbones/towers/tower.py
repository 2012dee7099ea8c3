"""What a backbone asks of an image tower and of a text tower, and where a tower keeps its heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from despur.backbones.protocol import LayerOutput


@dataclass(frozen=True)
class Place:
    """Where a model keeps one of its heads.

    Attributes:
        name: the tensor's name in the model's state dict.
        transposed: whether it is kept as [d_in, dim], the other way round than the head.
    """

    name: str
    transposed: bool = False

    def read(self, state: Mapping[str, Tensor]) -> Tensor:
        """The head that a state dict holds here."""
        return (state[self.name].mT if self.transposed else state[self.name]).contiguous()

    def shaped(self, head: Tensor, like: Tensor) -> Tensor:
        """A head as the model keeps it: turned round where need be, with the shape and precision of ``like``."""
        return (head.mT if self.transposed else head).reshape(like.shape).to(like.dtype).contiguous()


class ImageTower(Protocol):
    """An image encoder whose projection is taken off."""

    width: int
    """Length of its feature vectors."""

    @property
    def places(self) -> Mapping[str, Place]:
        """Where each image head (``image.*`` or ``pool.*``) lies in the whole model; none: there is no projection."""
        ...

    @property
    def constants(self) -> Mapping[str, Tensor]:
        """Heads that are numbers of the architecture and not weights (``pool.heads``)."""
        ...

    def features(self, pixels: Float[Tensor, "images 3 height width"]) -> Tensor:
        """Features before the projection, or the last maps where the attention pool is a head."""
        ...

    def trunk(self, pixels: Float[Tensor, "images 3 height width"]) -> LayerOutput:
        """The tower up to the explained layer."""
        ...

    def finish(self, output: LayerOutput, shift: Float[Tensor, "images channels"] | None = None) -> Tensor:
        """The rest: ``finish(trunk(x))`` equals ``features(x)``."""
        ...


class TextTower(Protocol):
    """A text encoder whose projection is taken off."""

    width: int

    @property
    def places(self) -> Mapping[str, Place]:
        """Where each text head lies in the whole model; none: there is no projection."""
        ...

    def features(self, tokens: Int[Tensor, "texts context"]) -> Float[Tensor, "texts d_text"]:
        """Features before the projection."""
        ...


def identity_heads(tower: ImageTower | TextTower, side: str) -> dict[str, Tensor]:
    """The head of a tower that has no projection of its own: the identity (METHOD section 2)."""
    return {} if tower.places else {f"{side}.weight": torch.eye(tower.width)}


def linear_places(side: str, path: str, module: nn.Module) -> dict[str, Place]:
    """Places of an ``nn.Linear`` that lies at ``path`` in the whole model, as heads of a side ("image" or "text")."""
    return {f"{side}.{name}": Place(f"{path}.{name}") for name, _ in module.named_parameters()}
