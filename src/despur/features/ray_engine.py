"""Shards of features from Ray Data's actors, on this machine or a cluster: the loop's own function in every actor.

Ray schedules, holds back what would fill its object store, and gives a lost actor's shards to another one. Only whole
shards travel to the process that writes them, in order; images are read where the actors are, under the same paths.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from despur.backbones.protocol import Backbone
from despur.errors import DespurError, ModelError, SettingsError
from despur.features.engine import ComputedShard, EmbedSettings, Engine, loop
from despur.progress import Progress, silent

OBJECT_STORE = 200 * 1024**2
"""Bytes of shared memory that a Ray started here may hold: some shards on their way to the writer."""


class RaySettings(BaseModel):
    """Where and how many actors run.

    Attributes:
        actors: copies of the model, each in a process of its own.
        address: of a running cluster ("auto", "HOST:6379"); None: Ray is started here, and stopped at the end.
        num_gpus: share of a GPU that each actor takes; 0.5 puts two on one.
        num_cpus: processors that each actor takes; it decodes in as many processes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    actors: Annotated[int, Field(ge=1)] = 1
    address: str | None = None
    num_gpus: Annotated[float, Field(ge=0)] = 0.0
    num_cpus: Annotated[float, Field(gt=0)] = 1.0


class ShardEncoder:
    """An actor: loads its own copy of the model with its first shard, then computes a shard a call."""

    def __init__(self, load: Callable[[], Backbone], weights: str, settings: EmbedSettings, threads: int) -> None:
        self._load = load
        self._weights = weights
        self._settings = settings
        self._threads = threads
        self._backbone: Backbone | None = None

    def __call__(self, plan: dict[str, Any]) -> dict[str, bytes]:
        """One shard of a plan's ``paths``, or the problem that stops the work, which Ray must not try again."""
        try:
            paths = [Path(path) for path in plan["paths"]]
            [shard] = loop(paths, [len(paths)], self._model(), self._settings, silent)
        except DespurError as problem:
            told = {"what": problem.what, "where": problem.where, "now": problem.now}
            return {"features": b"", "notes": b"", "problem": json.dumps(told).encode()}
        buffer = io.BytesIO()
        np.save(buffer, shard.features)
        notes = json.dumps([shard.rows, shard.unreadable]).encode()
        return {"features": buffer.getvalue(), "notes": notes, "problem": b""}

    def _model(self) -> Backbone:
        if self._backbone is None:
            # Ray gives an actor one thread; another number of threads may move a feature's last bit.
            torch.set_num_threads(self._threads)
            loaded = self._load()
            if loaded.fingerprint() != self._weights:
                raise ModelError(
                    "a worker loads other weights than this process",
                    where=loaded.spec,
                    now="give every node the same files and versions",
                )
            self._backbone = loaded
        return self._backbone


def ray_engine(load: Callable[[], Backbone], settings: RaySettings | None = None) -> Engine:
    """An engine of Ray actors.

    Args:
        load: builds the model anew in an actor; picklable (a ``functools.partial`` of ``load_backbone``).
        settings: how many actors, and where.

    Raises:
        SettingsError: Ray is not installed.
    """
    chosen = settings or RaySettings()
    require_ray()

    def engine(
        paths: Sequence[Path], sizes: Sequence[int], backbone: Backbone, embed: EmbedSettings, progress: Progress
    ) -> Iterator[ComputedShard]:
        if not sizes:
            return
        starts = np.cumsum([0, *sizes])[:-1].tolist()
        plans = [
            {"paths": [str(path.absolute()) for path in paths[start : start + size]]}
            for start, size in zip(starts, sizes, strict=True)
        ]
        inside = embed.model_copy(update={"workers": embed.workers or math.ceil(chosen.num_cpus)})
        encoder = (load, backbone.fingerprint(), inside, torch.get_num_threads())
        with _cluster(chosen):
            answers = progress(
                _answers(plans, encoder, chosen),
                total=len(paths),
                label="embedding",
                unit="images",
                each=embed.shard_rows,
            )
            for answer in answers:
                yield _shard(answer)

    return engine


def require_ray() -> None:
    """Check that Ray Data is there.

    Raises:
        SettingsError: it is not.
    """
    try:
        import_module("ray.data")
    except ImportError as error:
        raise SettingsError("the engine ray needs Ray Data", now="pip install 'despur[scale]'") from error


@contextmanager
def _cluster(settings: RaySettings) -> Generator[None, None, None]:
    """Ray as it already runs in this process, joined at the address, or started for as long as the work takes."""
    # Ray reports its use over the network unless it is told not to before it starts.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # pyright: ignore[reportMissingImports]

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if settings.address is None:
            processors = max(os.cpu_count() or 1, math.ceil(settings.actors * settings.num_cpus))
            ray.init(
                address="local",
                num_cpus=processors,
                object_store_memory=OBJECT_STORE,
                include_dashboard=False,
                **quiet,
            )
        else:
            ray.init(address=settings.address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = settings.address or "ray"
        raise SettingsError(f"no Ray cluster can be joined ({error})", where=where, now="check --address") from error
    try:
        yield
    finally:
        ray.shutdown()


def _answers(
    plans: list[dict[str, Any]], encoder: tuple[Any, ...], settings: RaySettings
) -> Iterator[dict[str, bytes]]:
    """What the actors answer, in the order of the plans."""
    import ray.data  # pyright: ignore[reportMissingImports]

    context = ray.data.DataContext.get_current()
    before = context.execution_options.preserve_order, context.enable_progress_bars
    context.execution_options.preserve_order, context.enable_progress_bars = True, False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        shards = ray.data.from_items(plans, override_num_blocks=len(plans)).map(
            cast(Any, ShardEncoder),
            fn_constructor_args=encoder,
            compute=ray.data.ActorPoolStrategy(size=min(settings.actors, len(plans))),
            num_cpus=settings.num_cpus,
            num_gpus=settings.num_gpus or None,
        )
        yield from shards.iter_rows()
    finally:
        context.execution_options.preserve_order, context.enable_progress_bars = before


def _shard(answer: dict[str, bytes]) -> ComputedShard:
    if answer["problem"]:
        raise ModelError(**json.loads(answer["problem"]))
    rows, unreadable = json.loads(answer["notes"])
    features = np.load(io.BytesIO(answer["features"]), allow_pickle=False)
    return ComputedShard(rows, features, [(row, reason) for row, reason in unreadable])
