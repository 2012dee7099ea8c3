"""What searches shards of images: this process, shard after shard, or Ray's actors (``ray_search``)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from despur.data.images import UnreadableImage, read_image
from despur.detect.protocol import Detections, Detector, Encoded, Queries
from despur.detect.schema import SCHEMA
from despur.errors import ModelError


class DetectSettings(BaseModel):
    """How a dataset is searched.

    Attributes:
        batch_size: images that go through the detector together.
        shard_rows: images in one shard; what is lost at most when a run is killed.
        workers: threads that read images ahead of the detector.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(default=8, ge=1)
    shard_rows: int = Field(default=512, ge=1)
    workers: int = Field(default=2, ge=1)


@dataclass(frozen=True)
class ImageShard:
    """Consecutive images of a dataset: ids, and where they lie."""

    ids: Sequence[str]
    paths: Sequence[Path]


class SearchEngine(Protocol):
    """Maps shards of images to tables of what was seen in them, in that order.

    Every engine gives the same tables, so that none is part of a fingerprint.
    """

    def __call__(
        self, shards: Sequence[ImageShard], detector: Detector[Any], queries: Queries[Any], settings: DetectSettings, /
    ) -> Iterator[pa.Table]:
        """Yield a table of ``SCHEMA`` a shard; its metadata hold the (id, reason) of images that failed."""
        ...


def search_here(
    shards: Sequence[ImageShard], detector: Detector[Encoded], queries: Queries[Encoded], settings: DetectSettings
) -> Iterator[pa.Table]:
    """The engine of one process."""
    for shard in shards:
        yield search(shard, detector, queries, settings)


def search(
    shard: ImageShard, detector: Detector[Encoded], queries: Queries[Encoded], settings: DetectSettings
) -> pa.Table:
    """One shard: its rows, in one chunk, and in the metadata the images that failed."""
    parts: list[pa.Table] = [SCHEMA.empty_table()]
    failed: dict[int, str] = {}
    for rows, images, unreadable in read_ahead(shard.paths, settings.batch_size, settings.workers):
        failed.update(unreadable)
        if images:
            try:
                found = detector.detect(images, queries)
            except torch.OutOfMemoryError as error:
                raise ModelError(
                    f"the device's memory does not hold {len(images)} images at once",
                    where=detector.spec,
                    now="give a smaller batch size",
                ) from error
            failed.update({rows[index]: reason for index, reason in found.failed.items()})
            parts.append(to_table(found, [shard.ids[row] for row in rows], queries.phrases))
    named = [(shard.ids[row], failed[row]) for row in sorted(failed)]
    return pa.concat_tables(parts).combine_chunks().replace_schema_metadata({"failed": json.dumps(named)})


def to_table(found: Detections, ids: Sequence[str], phrases: Sequence[str]) -> pa.Table:
    """A batch of detections as rows of the table; a place that is not known is null."""
    corners = [pa.array(found.box[:, side].astype(np.float32), from_pandas=True) for side in range(4)]
    return pa.table(
        [
            pa.array(ids, type=pa.string()).take(pa.array(found.image)),
            pa.array(phrases, type=pa.string()).take(pa.array(found.phrase)),
            pa.array(found.score.astype(np.float32)),
            *corners,
        ],
        schema=SCHEMA,
    )


def read_ahead(
    paths: Sequence[Path], batch_size: int, workers: int
) -> Iterator[tuple[list[int], list[Image.Image], list[tuple[int, str]]]]:
    """Photographs in batches, read by threads one batch ahead of who uses them.

    Yields:
        Index and image of those that could be read; index and reason of those that could not.
    """

    def read(path: Path) -> Image.Image | str:
        try:
            return read_image(path)
        except UnreadableImage as problem:
            return problem.reason

    batches = [range(start, min(start + batch_size, len(paths))) for start in range(0, len(paths), batch_size)]
    with ThreadPoolExecutor(max_workers=workers) as pool:
        coming = [pool.submit(read, paths[row]) for batch in batches[:1] for row in batch]
        for number, batch in enumerate(batches):
            results = [future.result() for future in coming]
            coming = [pool.submit(read, paths[row]) for after in batches[number + 1 : number + 2] for row in after]
            read_rows = {row: result for row, result in zip(batch, results, strict=True) if not isinstance(result, str)}
            unreadable = [(row, result) for row, result in zip(batch, results, strict=True) if isinstance(result, str)]
            yield list(read_rows), list(read_rows.values()), unreadable
