"""What computes shards of features: the plain loop here, or actors on many machines (``ray_engine``)."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeVar

import numpy as np
from jaxtyping import Shaped
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from despur.backbones.protocol import Backbone
from despur.errors import ModelError
from despur.features.encode import cut, encode_images
from despur.features.precision import Precision
from despur.progress import Progress

T = TypeVar("T")


class EmbedSettings(BaseModel):
    """How features are computed and kept.

    Attributes:
        batch_size: images that go through the encoder together.
        workers: processes that decode (threads where there are few images); None: one a processor.
        dtype: of the features on disk.
        precision: what the encoder computes in.
        shard_rows: examples a shard; what is lost at most when a run is killed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: Annotated[int, Field(ge=1)] = 64
    workers: Annotated[int, Field(ge=1)] | None = None
    dtype: Literal["float16", "float32"] = "float16"
    precision: Precision = "float32"
    shard_rows: Annotated[int, Field(ge=1)] = 1024


@dataclass(frozen=True)
class ComputedShard:
    """Features of one shard's images, before they are written.

    Attributes:
        rows: places within the shard of the images that could be read.
        features: of those images, in the precision of the store; of shape [0] where there are none.
        unreadable: (place, reason) of the others.
    """

    rows: list[int]
    features: Shaped[np.ndarray, "rows ..."]
    unreadable: list[tuple[int, str]]


class Engine(Protocol):
    """Maps a plan, consecutive paths and how many of them make up each shard, to shards in that order.

    Every engine gives the same bytes, so that none is part of a fingerprint.
    """

    def __call__(
        self,
        paths: Sequence[Path],
        sizes: Sequence[int],
        backbone: Backbone,
        settings: EmbedSettings,
        progress: Progress,
        /,
    ) -> Iterator[ComputedShard]:
        """Yield a shard for every one of ``sizes``, none of which is larger than ``settings.shard_rows``.

        Raises:
            ModelError: a feature is not finite, or does not fit the precision of the store.
        """
        ...


@contextmanager
def ended(steps: Iterator[T]) -> Generator[Iterator[T]]:
    """An engine's work, ended with the block, whatever ends that; else its processes end when chance has it."""
    try:
        yield steps
    finally:
        close = getattr(steps, "close", None)
        if close is not None:
            close()


def loop(
    paths: Sequence[Path], sizes: Sequence[int], backbone: Backbone, settings: EmbedSettings, progress: Progress
) -> Iterator[ComputedShard]:
    """The engine of one process: shard after shard.

    Batches do not cross shards: which images share a batch moves a feature's last bit, and a store ends with the same
    bytes wherever its computation was interrupted.
    """
    encoded = encode_images(
        paths,
        backbone,
        batch_size=settings.batch_size,
        workers=settings.workers,
        block=settings.shard_rows,
        precision=settings.precision,
        progress=progress,
    )
    first = 0
    for size in sizes:
        rows: list[int] = []
        features: list[np.ndarray] = []
        unreadable: list[tuple[int, str]] = []
        for _ in cut(size, settings.batch_size):
            batch = next(encoded)
            rows += [row - first for row in batch.rows]
            unreadable += [(row - first, reason) for row, reason in batch.unreadable]
            if batch.rows:
                features.append(_in_precision(batch.features, settings.dtype, backbone.spec))
        array = np.concatenate(features) if features else np.empty(0, dtype=settings.dtype)
        yield ComputedShard(rows, array, unreadable)
        first += size
    next(encoded, None)  # lets the progress display see the end of what it wraps


def _in_precision(features: Tensor, dtype: str, spec: str) -> np.ndarray:
    """Features as they are kept; refused where they are not finite or the precision does not reach so far."""
    if not features.isfinite().all():
        raise ModelError("a feature is not a finite number", where=spec, now="check the model's weights")
    with np.errstate(over="ignore"):  # told below, in a sentence
        array = features.numpy().astype(dtype)
    if not np.isfinite(array).all():
        raise ModelError(f"a feature is too large for {dtype}", where=spec, now="embed with --dtype float32")
    return array
