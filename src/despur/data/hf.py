"""Hugging Face datasets: a folder of theirs, or a name on the hub; images come out of Parquet and Arrow as files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock, Timeout

from despur.data.examples import BASE_SCHEMA, SPLITS, Dataset, make_dataset
from despur.data.folder import load_folder
from despur.data.hf_files import HubFiles, hub_files, local_files
from despur.data.paths import absolute
from despur.data.splits import check_splits, draw_missing_splits
from despur.data.table import Column, as_attribute, named_attribute, number_labels
from despur.errors import DataError, nearest
from despur.progress import Progress, silent
from despur.workspace import fingerprint, write_json
from despur.workspace.files import cannot_write

CHUNK = 256
"""Images a folder; a folder is there whole or not at all."""

WHOLE = "whole.json"
"""Written when all images are unpacked and on the disk; until then, sizes are checked."""

LABELS = ("label", "labels", "class", "fine_label")

STARTS = {
    b"\xff\xd8": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
    b"II*\x00": ".tif",
    b"MM\x00*": ".tif",
}
"""What files start with, and the suffix that they get."""


def load_hf(
    place: str,
    folder: Path,
    *,
    image: str | None = None,
    label: str | None = None,
    attributes: Sequence[str] = (),
    config: str | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Dataset:
    """A Hugging Face dataset as one examples table.

    ``place`` is a folder (what ``save_to_disk`` wrote, a repository of Parquet files, or image folders) or a name on
    the hub, for which the ``datasets`` library is needed. Images that lie inside Parquet or Arrow files are unpacked,
    byte for byte, into a folder below ``folder``, a chunk at a time; chunks that are there already are kept.

    Args:
        image, label: which columns; None: those that the dataset marks, or that are called so.
        attributes: columns of 0 and 1 that are attributes; empty: all that there are.
        config: which of the dataset's configurations, on the hub.
        seed: draws a tenth of the training images for each of validation and test where the dataset has no such split.

    Raises:
        DataError: a file, column, value or split is not as described, or the hub does not answer.
        WorkspaceError: the disk refuses the images.
    """
    spec = f"hf:{place}"
    root = absolute(Path(place))
    if root.is_dir():
        found = local_files(root, spec)
        if found is None:
            return load_folder(root, seed=seed)
    elif place.startswith((".", "/", "~")):
        raise DataError("there is no such folder", where=spec, now="check the path")
    else:
        found = hub_files(place, config, spec)
    if "train" not in found.files:
        raise DataError(
            f"it has no training split (found: {', '.join(found.files) or 'none'})",
            where=spec,
            now="name one that has images to train on",
        )
    order = [split for split in SPLITS if split in found.files]
    image = _image_column(found, image)
    label = _label_column(found, label)
    plain = [field.name for field in found.schema() if _is_plain(field.type) and field.name != image]
    table = pa.concat_tables(
        pa.Table.from_batches(found.batches(split, plain), schema=_only(found.schema(), plain)) for split in order
    )
    sizes = {split: sum(batch.num_rows for batch in found.batches(split, [label])) for split in order}
    columns = {name: table[name].to_pylist() for name in plain}
    classes, labels = _labels(found, label, columns[label])
    given = [split for split in order for _ in range(sizes[split])]
    splits = draw_missing_splits(spec, classes, labels, given, seed)
    check_splits(spec, classes, labels, splits)
    shown = _attributes(spec, {name: values for name, values in columns.items() if name != label}, attributes)
    home = folder / f"hf-{_state(found, image)[:16]}"
    images = _unpack(found, image, sizes, home, progress)
    ids = [f"{split}/{number}" for split in order for number in range(sizes[split])]
    values: dict[str, Sequence[object]] = {"id": ids, "image": images, "label": labels, "split": splits, **shown}
    return make_dataset(spec, home, classes, [named_attribute(name) for name in shown], values)


def _only(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in names])


def _is_plain(kind: pa.DataType) -> bool:
    return pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_string(kind)


def _image_column(found: HubFiles, name: str | None) -> str:
    """The column of images: a struct of ``bytes`` and ``path``, or plain bytes."""

    def holds_images(field: pa.Field) -> bool:
        if pa.types.is_struct(field.type):
            return any(inner.name == "bytes" for inner in field.type)
        return pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)

    fields = {field.name: field for field in found.schema()}
    candidates = [field.name for field in fields.values() if holds_images(field)]
    if name is not None:
        if name not in fields:
            raise DataError(f"it has no column {name!r}", where=found.where, now=nearest(name, list(fields)))
        if name not in candidates:
            raise DataError(f"the column {name!r} holds no images", where=found.where, now="name another with image=")
        return name
    if len(candidates) != 1:
        what = (
            f"{len(candidates)} columns hold images ({', '.join(candidates)})"
            if candidates
            else "no column holds images"
        )
        raise DataError(what, where=found.where, now=f"say which with image=COLUMN ({', '.join(fields)})")
    return candidates[0]


def _label_column(found: HubFiles, name: str | None) -> str:
    names = [field.name for field in found.schema() if _is_plain(field.type)]
    if name is not None:
        if name not in names:
            raise DataError(f"no column {name!r} holds classes", where=found.where, now=nearest(name, names))
        return name
    marked = [column for column, about in found.features().items() if about.get("_type") == "ClassLabel"]
    called = [column for column in LABELS if column in names]
    if len(marked) == 1:
        return marked[0]
    if not called:
        raise DataError(
            "no column is called label", where=found.where, now=f"say which with label= ({', '.join(names)})"
        )
    return called[0]


def _labels(found: HubFiles, name: str, column: Column) -> tuple[list[str], list[int]]:
    """Class names and each row's index; the dataset's own names where it has them."""
    if None in column or -1 in column:
        raise DataError(
            f"{name} is blank in row {1 + next(row for row, value in enumerate(column) if value in (None, -1))}",
            where=found.where,
            now="leave out splits without labels",
        )
    about: Mapping[str, Any] = found.features().get(name, {})
    if about.get("_type") == "ClassLabel" and about.get("names"):
        return [str(word).replace("_", " ") for word in about["names"]], [int(value) for value in column]
    return number_labels(column)


def _attributes(spec: str, columns: Mapping[str, Column], wanted: Sequence[str]) -> dict[str, list[bool]]:
    shown: dict[str, list[bool]] = {}
    # A column "label" or "mask" of 0 and 1 would stand in the way of the one that every dataset has.
    for name in wanted or [name for name in columns if name not in BASE_SCHEMA.names]:
        if name not in columns:
            raise DataError(f"it has no column {name!r}", where=spec, now=nearest(name, list(columns)))
        values = as_attribute(spec, name, columns[name])
        if values is None and wanted:
            raise DataError(f"the column {name!r} holds more than 0 and 1", where=spec, now="name another")
        if values is not None:
            shown[name] = values
    return shown


def _state(found: HubFiles, image: str) -> str:
    """A fingerprint of which files these are, by name, size and time."""
    files = [
        (split, file.name, file.stat().st_size, file.stat().st_mtime_ns)
        for split, some in found.files.items()
        for file in some
    ]
    return fingerprint(files, image)


def _unpack(found: HubFiles, column: str, sizes: Mapping[str, int], home: Path, progress: Progress) -> list[str]:
    """Write the images that are not there yet; returns the path of each, relative to ``home``, split by split.

    Raises:
        DataError: another process is unpacking the same images.
    """
    chunks = {split: _chunks(home / split, count) for split, count in sizes.items()}
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / ".lock", timeout=0):
            if not (home / WHOLE).exists():
                for split, folders in chunks.items():
                    written = _write_chunks(found, split, column, folders)
                    for _ in progress(
                        written, total=sizes[split], label=f"unpacking {split}", unit="images", each=CHUNK
                    ):
                        pass
                if os.name != "nt":
                    os.sync()  # file by file it would take longer than the writing
                write_json(home / WHOLE, sizes)
    except Timeout as error:
        raise DataError("another process is unpacking it", where=home, now="wait until that one is done") from error
    except OSError as error:
        raise cannot_write(home, error) from error
    return [
        file.relative_to(home).as_posix()
        for folders in chunks.values()
        for folder in folders
        for file in sorted(folder.iterdir())
    ]


def _chunks(home: Path, count: int) -> list[Path]:
    return [home / f"{start // CHUNK:05d}" for start in range(0, count, CHUNK)]


def _write_chunks(found: HubFiles, split: str, column: str, folders: Sequence[Path]) -> Iterator[None]:
    """Write every folder that is not there, or not as it should be; yields after each."""
    contents = (content for batch in found.batches(split, [column]) for content in _contents(found, batch.column(0)))
    for number, folder in enumerate(folders):
        mine = {
            f"{row:08d}{_suffix(content)}": content
            for row, content in enumerate(islice(contents, CHUNK), start=number * CHUNK)
        }
        sizes = {name: len(content) for name, content in mine.items()}
        if not folder.is_dir() or {file.name: file.stat().st_size for file in folder.iterdir()} != sizes:
            partial = folder.with_name(f".{folder.name}.partial")
            for stale in (folder, partial):
                shutil.rmtree(stale, ignore_errors=True)
            partial.mkdir(parents=True)
            for name, content in mine.items():
                (partial / name).write_bytes(content)
            partial.rename(folder)
        yield


def _contents(found: HubFiles, column: pa.Array) -> Iterator[bytes]:
    """Bytes of each image; b"" for a blank, which is quarantined when it is read."""
    for value in column.to_pylist():
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is None and isinstance(value, dict) and value.get("path"):
            raise DataError(
                f"it holds the path of an image ({value['path']}), not the image",
                where=found.where,
                now="save the dataset with its images embedded, or name the folder that they lie in",
            )
        yield content or b""


def _suffix(content: bytes) -> str:
    return next((suffix for start, suffix in STARTS.items() if content.startswith(start)), ".img")
