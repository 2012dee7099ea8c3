"""The engines by name."""

from __future__ import annotations

from collections.abc import Callable

from despur.backbones.protocol import Backbone
from despur.errors import SettingsError, nearest
from despur.features.engine import Engine, loop
from despur.features.ray_engine import RaySettings, ray_engine

ENGINES: dict[str, Callable[[Callable[[], Backbone], RaySettings], Engine]] = {
    "loop": lambda load, settings: _only_loop(settings),
    "ray": ray_engine,
}
"""Each is made from what builds the model anew, and from where actors run."""


def choose_engine(name: str, load: Callable[[], Backbone], settings: RaySettings) -> Engine:
    """The engine of that name.

    Args:
        load: builds the model anew, in another process.
        settings: of Ray; those of the loop are the defaults.

    Raises:
        SettingsError: there is no such engine, it lacks its extra, or it takes no such settings.
    """
    if name not in ENGINES:
        raise SettingsError(f"there is no engine {name!r}", where="--engine", now=nearest(name, list(ENGINES)))
    return ENGINES[name](load, settings)


def _only_loop(settings: RaySettings) -> Engine:
    if settings != RaySettings():
        raise SettingsError("the plain loop has no actors, address or GPU shares", now="add --engine ray")
    return loop
