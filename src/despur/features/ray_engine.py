"""Shards of features from Ray's actors: the loop's own function in every one of them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from despur.backbones.protocol import Backbone
from despur.data.stores import anywhere
from despur.features.engine import ComputedShard, EmbedSettings, Engine, loop
from despur.features.ray_actors import Plan, RaySettings, Work, answers, check_weights, require_ray
from despur.progress import Progress, silent


def ray_engine(load: Callable[[], Backbone], settings: RaySettings | None = None) -> Engine:
    """An engine of Ray actors. Only whole shards travel to the process that writes them.

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
        starts = np.cumsum([0, *sizes])[:-1].tolist()
        plans: list[Plan] = [
            {"paths": [anywhere(path) for path in paths[start : start + size]]}
            for start, size in zip(starts, sizes, strict=True)
        ]
        inside = embed.model_copy(update={"workers": embed.workers or chosen.workers})
        make = partial(_encoder, load, backbone.fingerprint(), inside)
        computed = progress(
            answers(plans, make, chosen), total=len(paths), label="embedding", unit="images", each=embed.shard_rows
        )
        for answer in computed:
            yield _from_bytes(answer)

    return engine


def _encoder(load: Callable[[], Backbone], weights: str, settings: EmbedSettings) -> Work:
    """What an actor computes: one shard of a plan's ``paths``."""
    backbone = load()
    check_weights(backbone.fingerprint(), weights, backbone.spec)

    def encode(plan: Plan) -> bytes:
        paths = [Path(path) for path in plan["paths"]]
        [shard] = loop(paths, [len(paths)], backbone, settings, silent)
        return _to_bytes(shard)

    return encode


def _to_bytes(shard: ComputedShard) -> bytes:
    """A line of JSON, then the features as NumPy writes them."""
    buffer = io.BytesIO()
    buffer.write(json.dumps([shard.rows, shard.unreadable]).encode() + b"\n")
    np.save(buffer, shard.features)
    return buffer.getvalue()


def _from_bytes(answer: bytes) -> ComputedShard:
    buffer = io.BytesIO(answer)
    rows, unreadable = json.loads(buffer.readline())
    features = np.load(buffer, allow_pickle=False)
    return ComputedShard(rows, features, [(row, reason) for row, reason in unreadable])
