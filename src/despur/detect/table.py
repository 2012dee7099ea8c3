"""The detections table on disk: written shard by shard, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from despur.data.examples import Dataset
from despur.data.images import UnreadableImage, read_image
from despur.detect.protocol import Detections, Detector, Encoded, Queries
from despur.detect.schema import SCHEMA
from despur.detect.vocabulary import Removal, Vocabulary
from despur.errors import WorkspaceError
from despur.progress import Progress, silent
from despur.workspace import (
    fingerprint,
    fingerprint_file,
    read_json,
    read_parquet,
    write_json,
    write_parquet,
    write_whole,
)

ROW_GROUP = 122_880
"""Rows that a reader takes at once: what DuckDB's threads like best."""


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
class Searched:
    """What a finished table says about itself.

    Attributes:
        phrases: what was looked for.
        removed: what was not, and why.
        quarantined: (id, image, reason) of images that could not be read or judged; they count nowhere.
        state: fingerprint of the images' contents, the detector and the phrases.
    """

    phrases: tuple[str, ...]
    removed: tuple[Removal, ...]
    quarantined: tuple[tuple[str, str, str], ...]
    state: str


def detect_to_table(
    dataset: Dataset,
    detector: Detector[Encoded],
    vocabulary: Vocabulary,
    path: Path,
    settings: DetectSettings | None = None,
    *,
    progress: Progress = silent,
) -> Searched:
    """Search a dataset's images for the phrases of a vocabulary, and write ``detections.parquet``.

    Shards lie in a folder beside ``path`` until all are there; one that is there already is kept if its images, the
    detector and the phrases are still the same.

    Args:
        path: where the table goes; it appears whole.

    Raises:
        ModelError: the detector cannot encode the phrases.
        WorkspaceError: the folder cannot be written.
    """
    settings = settings or DetectSettings()
    queries = detector.encode(vocabulary.phrases)
    folder = path.with_name(f"{path.stem}-shards")
    base = fingerprint(detector.fingerprint(), list(queries.phrases))
    ids, paths = dataset.ids, dataset.image_paths()
    spans = [slice(start, start + settings.shard_rows) for start in range(0, len(paths), settings.shard_rows)]
    states: list[str] = []
    steps = progress(spans, total=len(paths), label="detecting", unit="images", each=settings.shard_rows)
    for number, span in enumerate(steps):
        state = fingerprint(base, ids[span], [_contents(image) for image in paths[span]])
        states.append(state)
        shard = folder / f"shard-{number:05d}.parquet"
        if not _is_current(shard, state):
            write_parquet(shard, _search(ids[span], paths[span], detector, queries, settings))
            write_json(_note(shard), {"state": state, "checksum": fingerprint_file(shard)})
    return _merge(dataset, queries, vocabulary, folder, path, states)


def _contents(image: Path) -> str:
    try:
        return fingerprint_file(image)
    except OSError:
        return "unreadable"


def _note(shard: Path) -> Path:
    """What lies beside a shard from the moment that it is whole: what it was computed from, and its checksum."""
    return shard.with_suffix(".json")


def _is_current(shard: Path, state: str) -> bool:
    """Whether a shard is there, of this state, and byte for byte what was written; else it is as good as none."""
    try:
        return read_json(_note(shard)) == {"state": state, "checksum": fingerprint_file(shard)}
    except (WorkspaceError, OSError):
        return False


def _search(
    ids: Sequence[str],
    paths: Sequence[Path],
    detector: Detector[Encoded],
    queries: Queries[Encoded],
    settings: DetectSettings,
) -> pa.Table:
    """One shard: its rows, and in the metadata the images that failed."""
    parts: list[pa.Table] = [SCHEMA.empty_table()]
    failed: dict[int, str] = {}
    for rows, images, unreadable in read_ahead(paths, settings.batch_size, settings.workers):
        failed.update(unreadable)
        if images:
            found = detector.detect(images, queries)
            failed.update({rows[index]: reason for index, reason in found.failed.items()})
            parts.append(to_table(found, [ids[row] for row in rows], queries.phrases))
    named = [(ids[row], failed[row]) for row in sorted(failed)]
    return pa.concat_tables(parts).replace_schema_metadata({"failed": json.dumps(named)})


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


def _merge(
    dataset: Dataset,
    queries: Queries[Encoded],
    vocabulary: Vocabulary,
    folder: Path,
    path: Path,
    states: Sequence[str],
) -> Searched:
    """All shards as one file, a row group at a time; then the shards go."""
    shards = [folder / f"shard-{number:05d}.parquet" for number in range(len(states))]
    failed = [
        tuple(entry) for shard in shards for entry in json.loads(pq.read_schema(shard).metadata[b"failed"].decode())
    ]
    images = dict(zip(dataset.ids, dataset.table["image"].to_pylist(), strict=True))
    searched = Searched(
        queries.phrases,
        vocabulary.removed + queries.removed,
        tuple((name, images[name], reason) for name, reason in failed),
        fingerprint(list(states)),
    )
    write_detections(path, (read_parquet(shard) for shard in shards), searched)
    shutil.rmtree(folder)
    return searched


def write_detections(path: Path, parts: Iterable[pa.Table], searched: Searched) -> None:
    """Write ``detections.parquet``, whole, from tables of its schema; a row group at a time, so that memory stays flat.

    Args:
        searched: what the table is to say about itself.

    Raises:
        WorkspaceError: the folder cannot be written.
    """
    about = {
        "phrases": searched.phrases,
        "removed": [[removal.phrase, removal.reason] for removal in searched.removed],
        "quarantined": searched.quarantined,
        "state": searched.state,
    }
    schema = SCHEMA.with_metadata({"despur": json.dumps(about)})
    with write_whole(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        waiting: list[pa.Table] = []
        for part in parts:
            waiting.append(part.replace_schema_metadata(schema.metadata))
            if sum(table.num_rows for table in waiting) >= ROW_GROUP:
                writer.write_table(pa.concat_tables(waiting), row_group_size=1 << 62)
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting), row_group_size=1 << 62)


def read_searched(path: Path) -> Searched:
    """What a finished ``detections.parquet`` says about itself.

    Raises:
        WorkspaceError: it is missing, damaged, or was not written by :func:`detect_to_table`.
    """
    if not path.exists():
        raise WorkspaceError("it does not exist", where=path, now="run despur detect")
    try:
        return searched_of(pq.read_schema(path))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise WorkspaceError("it is damaged", where=path, now="delete it and run despur detect") from error


def searched_of(schema: pa.Schema) -> Searched:
    """What a table of detections says about itself in its metadata; any KeyError, TypeError or ValueError: nothing."""
    about = json.loads(schema.metadata[b"despur"].decode())
    return Searched(
        tuple(about["phrases"]),
        tuple(Removal(*removal) for removal in about["removed"]),
        tuple((name, image, reason) for name, image, reason in about["quarantined"]),
        about["state"],
    )
