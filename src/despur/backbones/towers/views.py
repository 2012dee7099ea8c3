"""A module with one of its parts taken off or exchanged, sharing every other weight."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

Tower = TypeVar("Tower", bound=nn.Module)


def without(module: Tower, *parts: str) -> Tower:
    """A view of ``module`` whose ``parts`` (parameters or submodules) are None; ``module`` itself is left as it is.

    open_clip's towers skip a projection that is None, so that a view gives the features before it, whatever the
    tower does besides. Weights are shared: a view costs no memory and follows the module to another device.
    """
    view = _view(module)
    for part in parts:
        setattr(view, part, None)
    return view


def exchanged(module: Tower, path: str, part: nn.Module) -> Tower:
    """A view of ``module`` with another submodule at a dotted path; ``module`` itself is left as it is."""
    view = _view(module)
    name, _, rest = path.partition(".")
    setattr(view, name, exchanged(module.get_submodule(name), rest, part) if rest else part)
    return view


def _view(module: Tower) -> Tower:
    view = copy.copy(module)
    view._parameters = dict(module._parameters)  # pyright: ignore[reportPrivateUsage]
    view._modules = dict(module._modules)  # pyright: ignore[reportPrivateUsage]
    return view
