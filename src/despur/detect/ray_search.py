"""Searching by Ray's actors: the function of one process in every one of them, with a detector of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from despur.data.stores import anywhere
from despur.detect.protocol import Detector, Queries
from despur.detect.searching import DetectSettings, ImageShard, SearchEngine, search
from despur.errors import ModelError
from despur.features.ray_actors import Plan, RaySettings, Work, answers, check_weights, require_ray


def ray_search(load: Callable[[], Detector[Any]], settings: RaySettings | None = None) -> SearchEngine:
    """An engine of Ray actors. Only what was seen travels to the process that writes it.

    Args:
        load: builds the detector anew in an actor, which encodes the phrases once; picklable (a ``functools.partial``
            of ``load_detector``).
        settings: how many actors, and where.

    Raises:
        SettingsError: Ray is not installed.
    """
    chosen = settings or RaySettings()
    require_ray()

    def engine(
        shards: Sequence[ImageShard], detector: Detector[Any], queries: Queries[Any], detect: DetectSettings
    ) -> Iterator[pa.Table]:
        plans: list[Plan] = [
            {"ids": list(shard.ids), "paths": [anywhere(path) for path in shard.paths]} for shard in shards
        ]
        inside = detect.model_copy(update={"workers": chosen.workers})
        make = partial(_searcher, load, detector.fingerprint(), queries.phrases, inside)
        for answer in answers(plans, make, chosen):
            with pa.ipc.open_stream(answer) as reader:
                yield reader.read_all()

    return engine


def _searcher(
    load: Callable[[], Detector[Any]], weights: str, phrases: tuple[str, ...], settings: DetectSettings
) -> Work:
    """What an actor computes: what is seen in one plan's images."""
    detector = load()
    check_weights(detector.fingerprint(), weights, detector.spec)
    queries = detector.encode(phrases)
    if queries.phrases != phrases:
        raise ModelError("a worker reads other phrases than this process", where=detector.spec)

    def look(plan: Plan) -> bytes:
        shard = ImageShard(plan["ids"], [Path(path) for path in plan["paths"]])
        table = search(shard, detector, queries, settings)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue().to_pybytes()

    return look
