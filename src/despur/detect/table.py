"""The detections table on disk: written shard by shard, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from despur.data.examples import Dataset
from despur.data.images import UNREADABLE, check_still_there, fingerprint_images
from despur.detect.protocol import Detector, Encoded, Queries
from despur.detect.schema import SCHEMA
from despur.detect.searching import DetectSettings, ImageShard, SearchEngine, search_here
from despur.detect.vocabulary import Removal, Vocabulary
from despur.errors import SettingsError, WorkspaceError
from despur.features.batching import tell_of_other_batches
from despur.features.engine import ended
from despur.features.mirror import ShardMirror
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
    contents: Sequence[str] | None = None,
    engine: SearchEngine = search_here,
    mirror: ShardMirror | None = None,
    progress: Progress = silent,
) -> Searched:
    """Search a dataset's images for the phrases of a vocabulary, and write ``detections.parquet``.

    Shards lie in a folder beside ``path`` until all are there; one that is there already is kept if its images, the
    detector, the phrases and the batch size are still the same.

    Args:
        path: where the table goes; it appears whole.
        contents: fingerprints of the images, where the caller has them; None: they are read for them.
        engine: what searches the missing shards; it changes no byte of them.
        mirror: where every shard is kept too; one that it has is fetched and not searched.

    Raises:
        ModelError: the detector cannot encode the phrases.
        SettingsError: it can read none of them.
        DataError: the mirror cannot be reached, or an image is gone that was there when its fingerprint was read.
        WorkspaceError: the folder cannot be written.
    """
    settings = settings or DetectSettings()
    queries = encode_vocabulary(detector, vocabulary)
    folder = path.with_name(f"{path.stem}-shards")
    base = fingerprint(detector.fingerprint(), list(queries.phrases))
    ids, paths = dataset.ids, dataset.image_paths()
    spans = [slice(start, start + settings.shard_rows) for start in range(0, len(paths), settings.shard_rows)]
    known = fingerprint_images(paths, progress) if contents is None else contents
    asked = [fingerprint(base, ids[span], list(known[span])) for span in spans]
    states = [_shard_state(state, settings.batch_size) for state in asked]
    files = [folder / f"shard-{number:05d}.parquet" for number in range(len(spans))]
    missing = [number for number, file in enumerate(files) if not _is_found(file, states[number], mirror)]
    sizes = (_batch_size(files[number], asked[number]) for number in missing)
    tell_of_other_batches(sizes, settings.batch_size, "searched")
    shards = [ImageShard(ids[spans[number]], paths[spans[number]]) for number in missing]
    found = progress(
        engine(shards, detector, queries, settings),
        total=sum(len(shard.ids) for shard in shards),
        label="detecting",
        unit="images",
        each=settings.shard_rows,
    )
    with ended(found) as tables:
        for number, table in zip(missing, tables, strict=True):
            _check_still_there(table, ids[spans[number]], paths[spans[number]], known[spans[number]])
            write_parquet(files[number], table)
            note = {
                "state": states[number],
                "batch_size": settings.batch_size,
                "checksum": fingerprint_file(files[number]),
            }
            write_json(_note(files[number]), note)
            if mirror is not None:
                mirror.send([files[number], _note(files[number])], states[number])
    return _merge(dataset, queries, vocabulary, files, path, asked)


def _failed(schema: pa.Schema) -> list[tuple[str, str]]:
    """(id, reason) of the images of a shard that could not be judged."""
    return [(name, reason) for name, reason in json.loads(schema.metadata[b"failed"].decode())]


def _check_still_there(table: pa.Table, ids: Sequence[str], paths: Sequence[Path], known: Sequence[str]) -> None:
    """Stop where an image of a shard is gone that had a fingerprint."""
    for name, reason in _failed(table.schema):
        row = ids.index(name)
        if known[row] != UNREADABLE:
            check_still_there(paths[row], reason)


def encode_vocabulary(detector: Detector[Encoded], vocabulary: Vocabulary) -> Queries[Encoded]:
    """A vocabulary as a detector reads it.

    Raises:
        ModelError: the detector cannot encode the phrases.
        SettingsError: it cannot read any of them: that nothing is seen would say nothing about the images.
    """
    queries = detector.encode(vocabulary.phrases)
    if queries.removed and not queries.phrases:
        count, first = len(queries.removed), queries.removed[0]
        raise SettingsError(
            f"the detector can read none of the {count} phrases (the first is {first.reason})",
            where=detector.spec,
            now="give shorter ones",
        )
    return queries


def _note(shard: Path) -> Path:
    """What lies beside a shard from the moment that it is whole: what it was computed from, and its checksum."""
    return shard.with_suffix(".json")


def _shard_state(asked: str, batch_size: int) -> str:
    """Fingerprint of what a shard's bytes follow from: how many images share a batch moves a score's last bit."""
    return fingerprint(asked, batch_size)


def _batch_size(shard: Path, asked: str) -> int | None:
    """The batch size of a shard that would be current with it; None: it is of something else, or not there."""
    note = _read_note(shard)
    size = note.get("batch_size")
    return size if isinstance(size, int) and note.get("state") == _shard_state(asked, size) else None


def _read_note(shard: Path) -> dict[str, Any]:
    """The note of a shard; empty where it is not there or damaged, which is as good as no shard."""
    try:
        note = read_json(_note(shard))
    except WorkspaceError:
        return {}
    return note if isinstance(note, dict) else {}


def _is_found(shard: Path, state: str, mirror: ShardMirror | None) -> bool:
    """Whether a current shard is here, fetched from the mirror if it has to be."""
    look = partial(_is_current, shard, state)
    return look() if mirror is None else mirror.found([shard, _note(shard)], state, look)


def _is_current(shard: Path, state: str) -> bool:
    """Whether a shard is there, of this state, and byte for byte what was written; else it is as good as none."""
    note = _read_note(shard)
    try:
        return note.get("state") == state and note.get("checksum") == fingerprint_file(shard)
    except OSError:
        return False


def _merge(
    dataset: Dataset,
    queries: Queries[Encoded],
    vocabulary: Vocabulary,
    shards: Sequence[Path],
    path: Path,
    states: Sequence[str],
) -> Searched:
    """All shards as one file, a row group at a time; then the shards go."""
    failed = [entry for shard in shards for entry in _failed(pq.read_schema(shard))]
    images = dict(zip(dataset.ids, dataset.table["image"].to_pylist(), strict=True))
    searched = Searched(
        queries.phrases,
        vocabulary.removed + queries.removed,
        tuple((name, images[name], reason) for name, reason in failed),
        fingerprint(list(states)),
    )
    write_detections(path, (read_parquet(shard) for shard in shards), searched)
    for folder in {shard.parent for shard in shards}:
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
        for group in _row_groups(parts):
            writer.write_table(group.replace_schema_metadata(schema.metadata), row_group_size=max(group.num_rows, 1))


def _row_groups(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Tables joined until they have ``ROW_GROUP`` rows or more; the last may have fewer."""
    waiting: list[pa.Table] = []
    for part in parts:
        waiting.append(part.replace_schema_metadata(None))
        if sum(table.num_rows for table in waiting) >= ROW_GROUP:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


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
