"""The feature store: shards that are memory-mapped, never loaded whole, and written one by one so that work goes on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from despur.backbones.protocol import Backbone
from despur.data.examples import Dataset
from despur.data.images import NO_LONGER, check_still_there
from despur.errors import WorkspaceError
from despur.features.batching import tell_of_other_batches
from despur.features.decode import is_passing, reads_now
from despur.features.encode import cut
from despur.features.engine import EmbedSettings, Engine, ended, loop
from despur.features.mirror import ShardMirror
from despur.progress import Progress, silent
from despur.workspace import fingerprint, fingerprint_file, read_json, remove_partials, write_json, write_whole

INDEX = "index.json"

MAPPED = 64
"""Shards that are mapped at once: each map holds a file open, and many systems allow a process 1,024."""


class Shard(BaseModel):
    """One file of the store: ``ids`` of its rows in order, and what could not be read (id, image, reason)."""

    model_config = ConfigDict(frozen=True)

    checksum: str
    ids: list[str]
    unreadable: list[tuple[str, str, str]]


class ShardNote(BaseModel):
    """What lies beside a shard (``shard-00000.json``) from the moment that it is whole.

    Images are named by their place among the shard's examples, so that a dataset may rename them.

    Attributes:
        batch_size: images that went through the encoder together; part of the state, from which it cannot be read.
    """

    model_config = ConfigDict(frozen=True)

    state: str
    batch_size: int = 0
    checksum: str
    rows: list[int]
    unreadable: list[tuple[int, str]]


class FeatureStore:
    """Image features on disk, a row an example that could be read, in the order of the dataset.

    Raises:
        WorkspaceError: the store is missing, unfinished, or a shard is not what the index says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards = _read_index(folder)
        # A shard none of whose images could be read does not know the features' shape.
        self._like = np.empty(0, dtype=np.float32)
        for number, shard in enumerate(self.shards):
            array = _open_array(folder / _array_name(number))
            if len(array) != len(shard.ids):
                raise WorkspaceError(
                    "the shard does not hold the rows that the index lists",
                    where=folder / _array_name(number),
                    now="embed again",
                )
            if len(array):
                self._like = np.empty((0, *array.shape[1:]), dtype=array.dtype)
        self._starts = np.cumsum([0, *(len(shard.ids) for shard in self.shards)])
        self._array = lru_cache(MAPPED)(lambda number: _open_array(folder / _array_name(number)))

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def ids(self) -> list[str]:
        """Ids of the rows, in their order."""
        return [name for shard in self.shards for name in shard.ids]

    @property
    def unreadable(self) -> list[tuple[str, str, str]]:
        """(id, image, reason) of every example that could not be read."""
        return [entry for shard in self.shards for entry in shard.unreadable]

    def rows(self, indices: Int[np.ndarray, "rows"]) -> Tensor:
        """Features of the chosen rows, in the order given and in the precision of the store: [rows, ...]."""
        found = np.empty((len(indices), *self._like.shape[1:]), dtype=self._like.dtype)
        owner = np.searchsorted(self._starts, indices, side="right") - 1
        for number in np.unique(owner).tolist():
            mine = owner == number
            found[mine] = self._array(number)[indices[mine] - self._starts[number]]
        return torch.from_numpy(found)

    def batches(self, size: int) -> Iterator[tuple[range, Tensor]]:
        """All rows in order, at most ``size`` at a time."""
        for span in cut(len(self), size):
            yield span, self.rows(np.arange(span.start, span.stop))

    def damaged(self) -> list[Path]:
        """Shards whose bytes are not those that were written."""
        return _damaged(self.folder, self.shards)


def damaged_shards(folder: Path) -> list[Path]:
    """Shards of a store that are gone or hold other bytes than were written, even where it cannot be opened.

    Raises:
        WorkspaceError: the index is missing or damaged, so that nothing is known of the shards.
    """
    return _damaged(folder, _read_index(folder))


def _read_index(folder: Path) -> list[Shard]:
    index = read_json(folder / INDEX)
    try:
        return [Shard.model_validate(entry) for entry in index["shards"]]
    except (KeyError, TypeError, ValidationError) as error:
        raise WorkspaceError("it does not describe a feature store", where=folder / INDEX, now="embed again") from error


def _damaged(folder: Path, shards: Sequence[Shard]) -> list[Path]:
    files = [folder / _array_name(number) for number in range(len(shards))]
    return [file for file, shard in zip(files, shards, strict=True) if not _is_whole(file, shard.checksum)]


def _array_name(number: int) -> str:
    return f"shard-{number:05d}.npy"


def _note_name(number: int) -> str:
    return f"shard-{number:05d}.json"


def _is_whole(file: Path, checksum: str) -> bool:
    try:
        return fingerprint_file(file) == checksum
    except OSError:
        return False


def _open_array(file: Path) -> np.ndarray:
    """A shard's features as a memory map."""
    try:
        return np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise WorkspaceError("the shard is missing or damaged", where=file, now="embed again") from error


def embed_to_store(
    dataset: Dataset,
    backbone: Backbone,
    folder: Path,
    *,
    state: str,
    settings: EmbedSettings | None = None,
    absent: Collection[int] | None = None,
    engine: Engine = loop,
    mirror: ShardMirror | None = None,
    progress: Progress = silent,
) -> FeatureStore:
    """Compute the features of a dataset's images, shard by shard; shards that are already there are kept.

    Args:
        state: fingerprint of what the features are computed from: the images in their order, and the backbone.
            Shards of another state, batch size, precision or size are computed again.
        settings: batch, precision and shard sizes.
        absent: rows of images that could not be opened when ``state`` was found; None: that is not known, and an image
            that is not there is unreadable as any other.
        engine: what computes the missing shards; it changes no byte of them.
        mirror: where every shard is kept too; one that it has is fetched and not computed.

    Raises:
        ModelError: a feature is not finite, or does not fit the precision of the store.
        DataError: the mirror cannot be reached, or an image is gone that was there when ``state`` was found.
    """
    settings = settings or EmbedSettings()
    from_this, state = state, shard_state(state, settings)
    folder.mkdir(parents=True, exist_ok=True)
    # The index goes first: from here until all shards are there, the store is unfinished.
    (folder / INDEX).unlink(missing_ok=True)
    names, images, paths = dataset.ids, dataset.table["image"].to_pylist(), dataset.image_paths()
    spans = cut(len(paths), settings.shard_rows)
    notes = [_found_note(folder, number, state, mirror) for number in range(len(spans))]
    for number, (note, span) in enumerate(zip(notes, spans, strict=True)):
        if note is None or not note.unreadable:
            continue
        if _may_be_read_now(note, [paths[row] for row in span], span, backbone, absent):
            notes[number] = None
    missing = [number for number, note in enumerate(notes) if note is None]
    sizes = (_batch_size(folder, number, from_this, settings) for number in missing)
    tell_of_other_batches(sizes, settings.batch_size, "computed")
    todo = [row for number in missing for row in spans[number]]
    rows = [len(spans[number]) for number in missing]
    with ended(engine([paths[row] for row in todo], rows, backbone, settings, progress)) as computed:
        for number, shard in zip(missing, computed, strict=True):
            for place, reason in shard.unreadable:
                if absent is not None and spans[number][place] not in absent:
                    check_still_there(paths[spans[number][place]], reason)
            checksum = _write_array(folder / _array_name(number), shard.features)
            note = ShardNote(
                state=state,
                batch_size=settings.batch_size,
                checksum=checksum,
                rows=shard.rows,
                unreadable=shard.unreadable,
            )
            write_json(folder / _note_name(number), note.model_dump())
            notes[number] = note
            if mirror is not None:
                mirror.send(_shard_files(folder, number), state)
    _remove_others(folder, len(spans))
    shards = [
        Shard(
            checksum=note.checksum,
            ids=[names[span[row]] for row in note.rows],
            unreadable=[(names[span[row]], images[span[row]], reason) for row, reason in note.unreadable],
        )
        for span, note in zip(spans, notes, strict=True)
        if note is not None
    ]
    write_json(folder / INDEX, {"shards": [shard.model_dump() for shard in shards]})
    return FeatureStore(folder)


def shard_state(state: str, settings: EmbedSettings) -> str:
    """Fingerprint of what a shard's bytes follow from, by which it is kept.

    How many images share a batch moves a feature's last bit: no run makes a store whose shards are of two batch sizes.
    """
    return fingerprint(state, settings.dtype, settings.shard_rows, settings.batch_size)


def begun_batch_size(folder: Path, state: str, settings: EmbedSettings) -> int | None:
    """The batch size of the shards that are there of this state, whatever the settings' own; None: there are none."""
    numbers = (file.stem.removeprefix("shard-") for file in sorted(folder.glob("shard-*.json")))
    found = (_batch_size(folder, int(number), state, settings) for number in numbers if number.isdecimal())
    return next((size for size in found if size is not None), None)


def _batch_size(folder: Path, number: int, state: str, settings: EmbedSettings) -> int | None:
    """The batch size of a shard that would be current with it; None: it is of something else, or not there."""
    note = _read_note(folder, number)
    if note is None:
        return None
    alike = settings.model_copy(update={"batch_size": note.batch_size})
    return note.batch_size if note.state == shard_state(state, alike) else None


def _may_be_read_now(
    note: ShardNote, paths: Sequence[Path], rows: range, backbone: Backbone, absent: Collection[int] | None
) -> bool:
    """Whether a shard lacks an image for a reason that has passed."""
    return any(
        (absent is not None and reason in NO_LONGER and rows[place] not in absent)
        or (is_passing(reason) and reads_now(paths[place], backbone))
        for place, reason in note.unreadable
    )


def _shard_files(folder: Path, number: int) -> list[Path]:
    return [folder / _array_name(number), folder / _note_name(number)]


def _found_note(folder: Path, number: int, state: str, mirror: ShardMirror | None) -> ShardNote | None:
    """The note of a current shard, from the mirror if it is not here; None: it must be computed."""
    look = partial(_current_note, folder, number, state)
    return look() if mirror is None else mirror.found(_shard_files(folder, number), state, look)


def _current_note(folder: Path, number: int, state: str) -> ShardNote | None:
    """The note of a shard that is there, of this state, and byte for byte what was written."""
    note = _read_note(folder, number)
    if note is None or note.state != state or not _is_whole(folder / _array_name(number), note.checksum):
        return None
    return note


def _read_note(folder: Path, number: int) -> ShardNote | None:
    """The note of a shard; a damaged one is as good as none, and the shard is computed again."""
    file = folder / _note_name(number)
    if not file.exists():
        return None
    try:
        return ShardNote.model_validate(read_json(file))
    except (WorkspaceError, ValidationError):
        return None


def _write_array(file: Path, array: np.ndarray) -> str:
    """Write one shard whole; returns its checksum."""
    with write_whole(file) as temporary:
        with temporary.open("wb") as handle:
            np.save(handle, array)
        checksum = fingerprint_file(temporary)
    return checksum


def _remove_others(folder: Path, count: int) -> None:
    """Delete shards past the last one, left by a larger dataset, and files that a killed run left half written."""
    remove_partials(folder)
    for file in folder.glob("shard-*"):
        number = file.stem.removeprefix("shard-")
        if number.isdecimal() and int(number) >= count:
            file.unlink()
