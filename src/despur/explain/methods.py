"""Every way of making explanation maps, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from despur.backbones.protocol import Backbone, LayerOutput
from despur.errors import SettingsError, nearest
from despur.explain.gradcam import layer_maps
from despur.explain.method import MapMethod
from despur.explain.relevance import RELEVANCE
from despur.explain.rollout import ROLLOUT
from despur.explain.similarity import SIMILARITY

__all__ = ["GRADCAM", "MAP_METHODS", "find_map_method"]


def _trunk(backbone: Backbone, pixels: Any) -> LayerOutput:
    return backbone.trunk(pixels)


GRADCAM = MapMethod("gradcam", "Grad-CAM", _trunk, layer_maps, transformer_only=False)
"""The paper's, and the default."""

MAP_METHODS: Mapping[str, MapMethod[Any]] = {
    method.name: method for method in (GRADCAM, RELEVANCE, ROLLOUT, SIMILARITY)
}


def find_map_method(name: str) -> MapMethod[Any]:
    """The method of that name.

    Raises:
        SettingsError: there is none.
    """
    if name not in MAP_METHODS:
        raise SettingsError(f"there is no map method {name!r}", where="method", now=nearest(name, list(MAP_METHODS)))
    return MAP_METHODS[name]
