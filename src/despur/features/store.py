"""The feature store: shards that are memory-mapped, never loaded whole, and written one by one so that work goes on."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from despur.backbones.protocol import Backbone
from despur.data.examples import Dataset
from despur.errors import ModelError, WorkspaceError
from despur.features.encode import cut, encode_images
from despur.progress import Progress, silent
from despur.workspace import fingerprint_file, read_json, write_json, write_whole

INDEX = "index.json"


class EmbedSettings(BaseModel):
    """How features are computed and kept.

    Attributes:
        batch_size: images that go through the encoder together.
        workers: threads that decode.
        dtype: of the features on disk.
        shard_rows: examples a shard; what is lost at most when a run is killed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: Annotated[int, Field(ge=1)] = 64
    workers: Annotated[int, Field(ge=1)] = 2
    dtype: Literal["float16", "float32"] = "float16"
    shard_rows: Annotated[int, Field(ge=1)] = 1024


@dataclass(frozen=True)
class Shard:
    """One file of the store: ``ids`` of its rows in order, and what could not be read (id, image, reason)."""

    file: Path
    checksum: str
    ids: list[str]
    unreadable: list[tuple[str, str, str]]


class FeatureStore:
    """Image features on disk, a row an example that could be read, in the order of the dataset.

    Raises:
        WorkspaceError: the store is missing, unfinished, or a shard is not what the index says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = read_json(folder / INDEX)
        try:
            self.shards = [_shard_of(folder, entry) for entry in index["shards"]]
        except (KeyError, TypeError) as error:
            raise WorkspaceError(
                "it does not describe a feature store", where=folder / INDEX, now="embed again"
            ) from error
        self._arrays = [_open_array(shard) for shard in self.shards]
        self._starts = np.cumsum([0, *(len(shard.ids) for shard in self.shards)]).tolist()

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def ids(self) -> list[str]:
        return [name for shard in self.shards for name in shard.ids]

    @property
    def unreadable(self) -> list[tuple[str, str, str]]:
        """(id, image, reason) of every example that could not be read."""
        return [entry for shard in self.shards for entry in shard.unreadable]

    def rows(self, indices: Int[np.ndarray, "rows"]) -> Tensor:
        """Features of the chosen rows, in the order given and in the precision of the store: [rows, ...]."""
        # A shard none of whose images could be read does not know the features' shape.
        sample = next((array for array in self._arrays if len(array)), self._arrays[0])
        found = np.empty((len(indices), *sample.shape[1:]), dtype=sample.dtype)
        owner = np.searchsorted(self._starts, indices, side="right") - 1
        for number in np.unique(owner):
            mine = owner == number
            found[mine] = self._arrays[number][indices[mine] - self._starts[number]]
        return torch.from_numpy(found)

    def batches(self, size: int) -> Iterator[tuple[range, Tensor]]:
        """All rows in order, at most ``size`` at a time."""
        for start in range(0, len(self), size):
            span = range(start, min(start + size, len(self)))
            yield span, self.rows(np.arange(span.start, span.stop))

    def shard_of_row(self, row: int) -> Shard:
        """The shard that holds a row."""
        return self.shards[bisect_right(self._starts, row) - 1]

    def damaged(self) -> list[Path]:
        """Shards whose bytes are not those that were written."""
        return [shard.file for shard in self.shards if fingerprint_file(shard.file) != shard.checksum]


def _open_array(shard: Shard) -> np.ndarray:
    """A shard's features as a memory map (an array of no rows cannot be mapped, and need not be)."""
    try:
        array = np.load(shard.file, mmap_mode="r" if shard.ids else None)
    except (OSError, ValueError, EOFError) as error:
        raise WorkspaceError("the shard is missing or damaged", where=shard.file, now="embed again") from error
    if len(array) != len(shard.ids):
        raise WorkspaceError(
            "the shard does not hold the rows that the index lists", where=shard.file, now="embed again"
        )
    return array


def _shard_of(folder: Path, entry: dict[str, Any]) -> Shard:
    unreadable = [(str(name), str(image), str(reason)) for name, image, reason in entry["unreadable"]]
    return Shard(folder / str(entry["file"]), str(entry["checksum"]), list(entry["ids"]), unreadable)


def embed_to_store(
    dataset: Dataset,
    backbone: Backbone,
    folder: Path,
    *,
    state: str,
    settings: EmbedSettings | None = None,
    progress: Progress = silent,
) -> FeatureStore:
    """Compute the features of a dataset's images, shard by shard; shards that are already there are kept.

    Args:
        state: fingerprint of everything the features depend on. Shards of another state are computed again.
        settings: batch, precision and shard sizes.

    Raises:
        ModelError: a feature does not fit the precision of the store.
    """
    settings = settings or EmbedSettings()
    folder.mkdir(parents=True, exist_ok=True)
    # The index goes first: from here until all shards are there, the store is unfinished.
    (folder / INDEX).unlink(missing_ok=True)
    names, images, paths = dataset.ids, dataset.table["image"].to_pylist(), dataset.image_paths()
    spans = [
        range(start, min(start + settings.shard_rows, len(paths)))
        for start in range(0, len(paths), settings.shard_rows)
    ]
    missing = [number for number in range(len(spans)) if not _is_current(folder, number, state)]
    todo = [row for number in missing for row in spans[number]]
    features = _in_shards(
        [paths[row] for row in todo], [len(spans[number]) for number in missing], backbone, settings, progress
    )
    for number, (rows, values, unreadable) in zip(missing, features, strict=True):
        start = spans[number].start
        entry = {
            "file": _array_name(number),
            "state": state,
            "checksum": _write_array(folder / _array_name(number), values, settings.dtype, backbone.spec),
            "ids": [names[start + row] for row in rows],
            "unreadable": [[names[start + row], images[start + row], reason] for row, reason in unreadable],
        }
        write_json(folder / _note_name(number), entry)
    _remove_others(folder, len(spans))
    notes = [read_json(folder / _note_name(number)) for number in range(len(spans))]
    write_json(folder / INDEX, {"state": state, "dtype": settings.dtype, "shards": notes})
    return FeatureStore(folder)


def _array_name(number: int) -> str:
    return f"shard-{number:05d}.npy"


def _note_name(number: int) -> str:
    return f"shard-{number:05d}.json"


def _is_current(folder: Path, number: int, state: str) -> bool:
    """Whether a shard is there, of this state, and byte for byte what was written."""
    note, array = folder / _note_name(number), folder / _array_name(number)
    if not note.exists() or not array.exists():
        return False
    try:
        entry = read_json(note)
        return entry["state"] == state and fingerprint_file(array) == entry["checksum"]
    except (WorkspaceError, KeyError, TypeError):
        return False  # a damaged note is as good as none: the shard is computed again


def _in_shards(
    paths: Sequence[Path], sizes: Sequence[int], backbone: Backbone, settings: EmbedSettings, progress: Progress
) -> Iterator[tuple[list[int], Tensor, list[tuple[int, str]]]]:
    """Features of consecutive paths cut into shards: (rows within the shard, features, unreadable rows).

    Batches do not cross shards: which images share a batch moves a feature's last bit, and a store ends with the same
    bytes wherever its computation was interrupted.
    """
    encoded = encode_images(
        paths,
        backbone,
        batch_size=settings.batch_size,
        workers=settings.workers,
        block=settings.shard_rows,
        progress=progress,
    )
    first = 0
    for size in sizes:
        batches = [next(encoded) for _ in cut(size, settings.batch_size)]
        yield (
            [row - first for batch in batches for row in batch.rows],
            torch.cat([batch.features for batch in batches]),
            [(row - first, reason) for batch in batches for row, reason in batch.unreadable],
        )
        first += size
    next(encoded, None)  # lets the progress display see the end of what it wraps


def _write_array(file: Path, values: Tensor, dtype: str, spec: str) -> str:
    """Write one shard whole; returns its checksum."""
    with np.errstate(over="ignore"):  # told below, in a sentence
        array = values.numpy().astype(dtype)
    if not np.isfinite(array).all():
        raise ModelError(
            f"a feature is too large for {dtype} or not a number", where=spec, now="embed with --dtype float32"
        )
    with write_whole(file) as temporary:
        with temporary.open("wb") as handle:
            np.save(handle, array)
        checksum = fingerprint_file(temporary)
    return checksum


def _remove_others(folder: Path, count: int) -> None:
    """Delete shards past the last one, left by a larger dataset, and files that a killed run left half written."""
    for file in folder.glob(".shard-*.partial.*"):
        file.unlink()
    for file in folder.glob("shard-*"):
        if int(file.stem.removeprefix("shard-")) >= count:
            file.unlink()


def state_digest(parts: Sequence[str]) -> str:
    """One digest over many, in order."""
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        digest.update(part.encode() + b"\n")
    return digest.hexdigest()
