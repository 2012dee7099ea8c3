"""despur: find, judge, repair and prove spurious correlations in CLIP-like models.

The names below are loaded when first used, so that importing despur is instant.
"""

from __future__ import annotations

import sys
from importlib import import_module, metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from despur.catalog import load_backbone, load_dataset
    from despur.errors import DespurError
    from despur.pipeline.verbs import detect, embed, evaluate, explain, mitigate, rank, report

    __version__: str

__all__ = [
    "DespurError",
    "__version__",
    "detect",
    "embed",
    "evaluate",
    "explain",
    "load_backbone",
    "load_dataset",
    "mitigate",
    "rank",
    "report",
]

_HOMES = {
    "DespurError": "despur.errors",
    "load_backbone": "despur.catalog",
    "load_dataset": "despur.catalog",
    "embed": "despur.pipeline.verbs",
    "detect": "despur.pipeline.verbs",
    "rank": "despur.pipeline.verbs",
    "mitigate": "despur.pipeline.verbs",
    "evaluate": "despur.pipeline.verbs",
    "explain": "despur.pipeline.verbs",
    "report": "despur.pipeline.verbs",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("despur")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'despur' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Face(ModuleType):
    """Keeps ``despur.mitigate`` the verb: importing the room of the same name would bind the room there instead."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
