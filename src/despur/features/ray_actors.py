"""Ray Data's actors, on this machine or a cluster: plans in, one answer each, in order; whatever it is they compute.

Ray schedules, holds back what would fill its object store, and gives a lost actor's plans to another one. An answer is
bytes, and travels to the process that asked; images are read where the actors are, under the same paths.
"""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from inspect import signature
from traceback import format_exc
from typing import Annotated, Any, cast
from warnings import catch_warnings, simplefilter

import torch
from pydantic import BaseModel, ConfigDict, Field

from despur.errors import DespurError, ModelError, SettingsError

log = logging.getLogger(__name__)

REACHED_WITHIN = 5.0
"""Seconds in which a cluster must answer."""

OBJECT_STORE = 200 * 1024**2
"""Bytes of shared memory that a Ray started here may hold: some answers on their way to who asked."""

RESTARTS = 20
"""How often an actor that was lost, with its node or alone, is started anew. A plan that kills every actor would have
it started for ever."""

GO_ON = "mend that, and run it again: it goes on at the first shard that is missing (--debug shows more)"

Plan = dict[str, Any]
Work = Callable[[Plan], bytes]


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
    num_gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    num_cpus: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    @property
    def device(self) -> str:
        """Where an actor's model runs: Ray shows an actor only the GPUs that it gives it."""
        return "cuda" if self.num_gpus else "cpu"

    @property
    def workers(self) -> int:
        """Processes or threads in which an actor reads images."""
        return math.ceil(self.num_cpus)


class Actor:
    """Makes what computes with its first plan, then computes a plan a call.

    Args:
        make: loads the model anew.
        threads: of torch. Ray gives an actor one; another number of threads may move a result's last bit.
    """

    def __init__(self, make: Callable[[], Work], threads: int) -> None:
        self._make = make
        self._threads = threads
        self._work: Work | None = None

    def __call__(self, plan: Plan) -> dict[str, bytes]:
        """The plan's answer, or the problem that stops the work, which Ray must not try again."""
        try:
            if self._work is None:
                torch.set_num_threads(self._threads)
                self._work = self._make()
            return {"answer": self._work(plan), "problem": b""}
        except DespurError as problem:
            told = {"what": problem.what, "where": problem.where, "now": problem.now}
        except Exception as error:  # noqa: BLE001 - whatever it is, Ray would print pages of it
            told = {"what": f"an actor broke off ({_told(error)})", "where": "ray", "now": GO_ON}
        return {"answer": b"", "problem": json.dumps([told, format_exc()]).encode()}


def require_ray() -> None:
    """Check that Ray Data is there.

    Raises:
        SettingsError: it is not.
    """
    try:
        import_module("ray.data")
    except ImportError as error:
        raise SettingsError("Ray Data is not installed", where="engine", now="pip install 'despur[scale]'") from error


def answers(plans: Sequence[Plan], make: Callable[[], Work], settings: RaySettings) -> Iterator[bytes]:
    """What actors answer, in the order of the plans.

    Args:
        plans: plain values.
        make: picklable; called once in every actor.

    Raises:
        ModelError: an actor met a problem that is no other actor's to mend, or was lost too often.
        SettingsError: the cluster cannot be joined, or has not what an actor takes.
    """
    if not plans:
        return
    # Ray prints what it says of lost actors, and stdout is the result's.
    with redirect_stdout(sys.stderr), _cluster(settings):
        for row in _rows(plans, make, settings):
            if row["problem"]:
                told, traceback = json.loads(row["problem"])
                raise ModelError(**told) from RuntimeError(f"in an actor: {traceback}")
            yield row["answer"]


def check_weights(found: str, expected: str, spec: str) -> None:
    """Refuse a model whose fingerprint is not that of the process that asked.

    Raises:
        ModelError: it is another one.
    """
    if found != expected:
        raise ModelError(
            "a worker loads other weights than this process",
            where=spec,
            now="give every node the same files and versions",
        )


@contextmanager
def _cluster(settings: RaySettings) -> Generator[None, None, None]:
    """Ray as it already runs in this process, joined at the address, or started for as long as the work takes."""
    # Ray reports its use over the network unless it is told not to before it starts.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # pyright: ignore[reportMissingImports]

    if ray.is_initialized():
        _check_resources(settings, can_grow=True)
        yield
        return
    if settings.address is not None:
        _check_reachable(settings.address)
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
        _check_resources(settings, can_grow=settings.address is not None)
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Whether anything listens there, which Ray itself would try for minutes.

    Raises:
        SettingsError: nothing does, or it is no address.
    """
    if address in ("auto", "local"):
        return
    now = "give --address HOST:6379 of the head node, or auto on a node of the cluster"
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise SettingsError("no Ray cluster can be joined (it is no HOST:PORT)", where=repr(address), now=now)
    try:
        socket.create_connection((host, int(port)), timeout=REACHED_WITHIN).close()
    except (OSError, UnicodeError) as error:  # a name of more letters than names have is a UnicodeError
        raise SettingsError(f"no Ray cluster can be joined ({error})", where=address, now=now) from error


def _check_resources(settings: RaySettings, *, can_grow: bool) -> None:
    """Whether any node has what an actor takes; Ray would wait for one for ever, and say nothing.

    Raises:
        SettingsError: none has, and none can be added.
    """
    import ray  # pyright: ignore[reportMissingImports]

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(node.get("GPU", 0) >= settings.num_gpus and node.get("CPU", 0) >= settings.num_cpus for node in nodes):
        return
    asked = f"{settings.num_cpus:g} processors and {settings.num_gpus:g} GPUs"
    if not can_grow:
        raise SettingsError(
            f"this machine has not the {asked} that an actor is to take", where="ray", now="lower --num-gpus"
        )
    log.warning("no node has the %s that an actor takes; waiting until the cluster adds one", asked)


def _told(error: BaseException) -> str:
    """An error's kind and the first line of what it says, which may be a traceback."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__


def _rows(plans: Sequence[Plan], make: Callable[[], Work], settings: RaySettings) -> Iterator[dict[str, bytes]]:
    import ray.data  # pyright: ignore[reportMissingImports]
    import ray.exceptions  # pyright: ignore[reportMissingImports]

    context = ray.data.DataContext.get_current()
    before = context.execution_options.preserve_order, context.enable_progress_bars
    context.execution_options.preserve_order, context.enable_progress_bars = True, False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what stops the work is told below, in a sentence
    try:
        items = ray.data.from_items(list(plans), override_num_blocks=len(plans))
        with catch_warnings():
            simplefilter("ignore")  # Ray 2.64 takes no such option any more, and is given none
            known = signature(items.map).parameters
            limited: dict[str, Any] = {"max_restarts": RESTARTS} if "ray_remote_args" in known else {}
            rows = items.map(
                cast(Any, Actor),
                fn_constructor_args=(make, torch.get_num_threads()),
                compute=ray.data.ActorPoolStrategy(size=min(settings.actors, len(plans))),
                num_cpus=settings.num_cpus,
                num_gpus=settings.num_gpus or None,
                **limited,
            )
        yield from rows.iter_rows()
    except ray.exceptions.RayError as error:
        raise ModelError(f"no actor could finish ({_told(error)})", where="ray", now=GO_ON) from error
    finally:
        context.execution_options.preserve_order, context.enable_progress_bars = before
