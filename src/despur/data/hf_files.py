"""Where the rows of a Hugging Face dataset lie: Parquet or Arrow files by split, in a folder or in the hub's cache."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from despur.data.paths import check_inside
from despur.data.splits import split_name
from despur.errors import DataError

ROWS_AT_ONCE = 256
"""Rows of a Parquet file that are held in memory together, images included."""

DAMAGE = (pa.ArrowException, OSError, KeyError, TypeError, ValueError)


@dataclass(frozen=True)
class HubFiles:
    """Files of a dataset by split ("train", "val", "test"), all Parquet or all Arrow streams."""

    where: str
    files: dict[str, list[Path]]

    def schema(self) -> pa.Schema:
        """The columns, with what the ``datasets`` library noted about them.

        Raises:
            DataError: the first file cannot be read.
        """
        file = next(iter(self.files.values()))[0]
        with _told(file):
            if file.suffix == ".parquet":
                return pyarrow.parquet.read_schema(file)
            with pa.memory_map(str(file)) as source:
                return pa.ipc.open_stream(source).schema

    def features(self) -> dict[str, dict[str, Any]]:
        """What ``datasets`` noted of each column, such as ``{"_type": "ClassLabel", "names": [...]}``."""
        noted = (self.schema().metadata or {}).get(b"huggingface")
        try:
            features = json.loads(noted)["info"]["features"] if noted else {}
        except (ValueError, KeyError, TypeError):
            return {}
        return {name: about for name, about in features.items() if isinstance(about, dict)}

    def batches(self, split: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of a split in order, some at a time.

        Raises:
            DataError: a file cannot be read, or lacks a column.
        """
        for file in self.files[split]:
            with _told(file):
                if file.suffix == ".parquet":
                    with pyarrow.parquet.ParquetFile(file) as stored:
                        yield from stored.iter_batches(batch_size=ROWS_AT_ONCE, columns=list(columns))
                else:
                    with pa.memory_map(str(file)) as source:
                        for batch in pa.ipc.open_stream(source):
                            yield batch.select(list(columns))


@contextmanager
def _told(file: Path) -> Generator[None]:
    """Turn what goes wrong while a file is read into one sentence."""
    try:
        yield
    except DAMAGE as error:
        raise DataError(f"it does not read ({error})", where=file, now="download it again") from error


def local_files(root: Path, where: str) -> HubFiles | None:
    """The files in a folder: one that ``save_to_disk`` wrote, or a repository of Parquet files; None: neither.

    Raises:
        DataError: a note in the folder is damaged or points out of it, or a file's name tells no split.
    """
    if (root / "dataset_dict.json").is_file() or (root / "state.json").is_file():
        return HubFiles(where, _saved(root))
    files = sorted(file for file in root.rglob("*.parquet") if not file.name.startswith("."))
    if not files:
        return None
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(file.relative_to(root)), []).append(file)
    return HubFiles(where, by_split)


def _split_of(file: Path) -> str:
    """The split that a file's name or a folder above it tells: ``data/train-00000-of-00002.parquet``."""
    for part in reversed(file.with_suffix("").parts):
        for word in (part, re.split(r"[-_.]", part)[0]):
            split = split_name(word)
            if split is not None:
                return split
    raise DataError(
        "its name tells no split", where=file, now="name it train-....parquet, or put it in a folder train/"
    )


def _saved(root: Path) -> dict[str, list[Path]]:
    """Arrow files of a folder that ``save_to_disk`` wrote: all splits, or one, which is then the training split."""
    try:
        if not (root / "dataset_dict.json").is_file():
            return {"train": _state(root)}
        names = json.loads((root / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        check_inside(root, names)
        found = {split_name(name): _state(root / name) for name in names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"it is no dataset that save_to_disk wrote ({error})", where=root, now="save it again"
        ) from error
    return {split: files for split, files in found.items() if split is not None}


def _state(folder: Path) -> list[Path]:
    entries = json.loads((folder / "state.json").read_text(encoding="utf-8"))["_data_files"]
    names = [entry["filename"] for entry in entries]
    check_inside(folder, names)
    return [folder / name for name in names]


def hub_files(name: str, config: str | None, where: str) -> HubFiles:
    """The files of a dataset on the hub, fetched into the cache by the ``datasets`` library.

    Raises:
        DataError: the library is not there, or the hub does not give the dataset.
    """
    by_hand = f"or fetch it by hand (hf download --repo-type dataset {name} --local-dir DIR) and write hf:DIR"
    try:
        library = import_module("datasets")
    except ImportError as error:
        raise DataError(
            "there is no such folder, and to fetch it from the hub the library 'datasets' is needed",
            where=where,
            now=f"pip install 'despur[hf]', {by_hand}",
        ) from error
    try:
        splits = library.load_dataset(name, config)
    except (OSError, ValueError, RuntimeError) as error:
        # What the hub and its clients raise is one of these: no network, no such name, no access, a broken file.
        reason = str(error).strip().splitlines()
        raise DataError(
            f"the hub does not give it ({reason[0] if reason else type(error).__name__})",
            where=where,
            now=f"check the name and the network, {by_hand}",
        ) from error
    found = {split_name(split): [Path(file["filename"]) for file in splits[split].cache_files] for split in splits}
    return HubFiles(where, {split: files for split, files in found.items() if split is not None and files})
