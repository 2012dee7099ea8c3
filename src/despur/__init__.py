"""despur: find, judge, repair and prove spurious correlations in CLIP-like models.

The names below are loaded when first used, so that importing despur is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from despur.catalog import load_backbone as load_backbone
    from despur.catalog import load_dataset as load_dataset
    from despur.errors import DespurError as DespurError

__version__ = "0.1.0"

_HOMES = {
    "DespurError": "despur.errors",
    "load_backbone": "despur.catalog",
    "load_dataset": "despur.catalog",
}

__all__ = ["DespurError", "__version__", "load_backbone", "load_dataset"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'despur' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
