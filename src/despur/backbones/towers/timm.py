"""timm's image towers inside open_clip: SigLIP's and MobileCLIP's transformers, EVA02, and convolutional networks.

Where open_clip puts the projection differs from family to family (a layer behind the trunk, the trunk's own classifier,
or nowhere: SigLIP's attention pooling ends the tower). It is found once, by looking, and exchanged for the identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from open_clip.timm_model import TimmModel
from timm.models.eva import Eva, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from despur.backbones.protocol import LayerOutput
from despur.backbones.towers.tower import Place, linear_places
from despur.backbones.towers.views import exchanged
from despur.errors import ModelError

# timm has no public name for a rotary embedding's table; its own is right for every kind of rotary embedding it knows.
# pyright: reportPrivateUsage=false


def projection_path(visual: TimmModel) -> str | None:
    """Name, within the tower, of the linear layer that maps features to the joint space; None: there is none."""
    for path in ("head.proj", "head.mlp.fc2"):
        if path in dict(visual.named_modules()):
            return path
    # Every timm model answers this; a tower whose features are its output has an identity there.
    trunk: Any = visual.trunk
    classifier = trunk.get_classifier()
    if not isinstance(classifier, nn.Linear):
        return None
    return next(path for path, module in visual.named_modules() if module is classifier)


class TimmTower:
    """A tower of timm's as an image tower.

    A transformer is explained where the others are: behind the first LayerNorm of its last block (METHOD section 4),
    or, where blocks normalise behind their attention, at that attention's input. Any other tower is explained at the
    maps that its pooling reads.

    Args:
        visual: open_clip's wrapper around the trunk.
        spec: how the user named the model, for messages.
    """

    constants: Mapping[str, Tensor] = {}

    def __init__(self, visual: TimmModel, spec: str) -> None:
        path = projection_path(visual)
        self.spec = spec
        self._path = path
        self._bare: Any = visual if path is None else exchanged(visual, path, nn.Identity())
        self.visual = visual
        self.width = int(visual.get_submodule(path).in_features if path else visual.trunk.head_hidden_size)  # pyright: ignore[reportArgumentType]
        self._start: Any = None
        self._last: Any = None
        trunk: Any = visual.trunk
        if isinstance(trunk, VisionTransformer | Eva) and type(trunk.blocks[-1]) in (Block, EvaBlock, EvaBlockPostNorm):
            self._last = trunk.blocks[-1]
            self._start = exchanged(exchanged(trunk, "blocks", trunk.blocks[:-1]), "norm", nn.Identity())

    @property
    def places(self) -> Mapping[str, Place]:
        """The linear layer that leads to the joint space; nothing where there is none."""
        if self._path is None:
            return {}
        return linear_places("image", f"visual.{self._path}", self.visual.get_submodule(self._path))

    def features(self, pixels: Float[Tensor, "images 3 height width"]) -> Tensor:
        """Features [images, d_image] in front of that layer."""
        return self._bare(pixels)

    def trunk(self, pixels: Float[Tensor, "images 3 height width"]) -> LayerOutput:
        """The tower up to the explained layer.

        Raises:
            ModelError: the tower's last layer is neither a transformer's nor a map.
        """
        if self._last is None:
            maps = self.visual.trunk.forward_features(pixels)  # pyright: ignore[reportCallIssue]
            if maps.ndim != 4:
                name = type(self.visual.trunk).__name__
                raise ModelError(
                    f"despur does not know which layer of timm's {name} to explain",
                    where=self.spec,
                    now="leave the stage explain out; every other one takes this model",
                )
            maps = maps.movedim(-1, 1) if self._channels_last else maps
            return LayerOutput(maps, residual=None, grid=(maps.shape[-2], maps.shape[-1]))
        trunk: Any = self.visual.trunk
        stream = self._start.forward_features(pixels)
        normed = stream if isinstance(self._last, EvaBlockPostNorm) else self._last.norm1(stream)
        rows, columns = trunk.patch_embed.grid_size
        return LayerOutput(normed, residual=stream, grid=(rows, columns), prefix_tokens=trunk.num_prefix_tokens)

    def finish(self, output: LayerOutput, shift: Float[Tensor, "images channels"] | None = None) -> Tensor:
        """From the explained layer to the features; ``shift`` is added to every position of the layer's output."""
        if shift is not None:
            output = output.shifted(shift)
        last: Any = output.activations
        if self._last is not None:
            last = self.visual.trunk.norm(self._last_block(output))  # pyright: ignore[reportCallIssue]
        elif self._channels_last:
            last = last.movedim(1, -1)
        return self._bare.head(self._bare.trunk.forward_head(last))

    @property
    def _channels_last(self) -> bool:
        return getattr(self.visual.trunk, "output_fmt", "NCHW") == "NHWC"

    def _last_block(self, output: LayerOutput) -> Float[Tensor, "images tokens channels"]:
        """The last block from its attention on, each family's residuals as it scales them."""
        last, stream = self._last, output.residual
        if isinstance(last, Block):
            stream = stream + last.ls1(last.attn(output.activations))
            return stream + last.ls2(last.mlp(last.norm2(stream)))
        attended = last.attn(output.activations, rope=self._rotary())
        if isinstance(last, EvaBlockPostNorm):
            stream = stream + last.norm1(attended)
            return stream + last.norm2(last.mlp(stream))
        stream = stream + (attended if last.gamma_1 is None else last.gamma_1 * attended)
        mixed = last.mlp(last.norm2(stream))
        return stream + (mixed if last.gamma_2 is None else last.gamma_2 * mixed)

    def _rotary(self) -> Tensor | None:
        """The rotary embedding of the last block; it does not depend on the image."""
        trunk: Any = self.visual.trunk
        if trunk.rope is None:
            return None
        known = hasattr(trunk.rope, "feat_shape")
        table = trunk.rope.get_embed() if known else trunk.rope.get_embed(shape=trunk.patch_embed.grid_size)
        return table[-1] if getattr(trunk, "rope_mixed", False) else table
