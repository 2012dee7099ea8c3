"""The engines by name."""

from __future__ import annotations

from collections.abc import Callable

from despur.backbones.protocol import Backbone
from despur.errors import SettingsError, nearest
from despur.features.engine import Engine, loop
from despur.features.ray_actors import RaySettings, require_ray
from despur.features.ray_engine import ray_engine

LOOP, RAY = "loop", "ray"


class EngineSettings(RaySettings):
    """A study's section ``engine``: what works through the images of embed and detect; it changes no byte.

    Attributes:
        name: "loop" (this process) or "ray".
    """

    name: str = LOOP

    @property
    def spread(self) -> RaySettings:
        """The actors' settings alone."""
        return RaySettings.model_validate(self.model_dump(exclude={"name"}))


def chosen_actors(name: str, settings: RaySettings) -> RaySettings | None:
    """The actors of the engine of that name; None for ``loop``, which has none.

    Args:
        settings: of Ray; those of the loop are the defaults.

    Raises:
        SettingsError: there is no such engine, it lacks its extra, or it takes no such settings.
    """
    if name not in (LOOP, RAY):
        raise SettingsError(f"there is no engine {name!r}", where="engine", now=nearest(name, [LOOP, RAY]))
    if name == RAY:
        require_ray()
        return settings
    if settings != RaySettings():
        raise SettingsError(
            "the plain loop has no actors, address or GPU shares",
            where="engine",
            now="add --engine ray, or in a study name: ray",
        )
    return None


def choose_engine(name: str, load: Callable[[], Backbone], settings: RaySettings) -> Engine:
    """The engine of that name for embedding; refuses what :func:`chosen_actors` refuses.

    Args:
        load: builds the model anew, in another process.
    """
    actors = chosen_actors(name, settings)
    return loop if actors is None else ray_engine(load, actors)
