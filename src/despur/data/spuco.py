"""SpuCo's image folders: ``root/train/CLASS/VALUE/*.jpg``, where VALUE is what correlates spuriously with the class.

SpuCoBirds, SpuCoDogs and SpuCoAnimals (Joshi et al. 2023) are downloads of that layout, and ``SpuCoImageFolder`` takes
anyone's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from despur.data.examples import Dataset, make_dataset
from despur.data.folder import image_files, subfolders
from despur.data.paths import absolute
from despur.data.splits import check_splits, split_name
from despur.data.values import value_columns
from despur.errors import DataError

DOWNLOADS = ("spuco_birds", "spuco_dogs")
"""What the downloads unpack to. Both beside each other are SpuCoAnimals: birds and dogs in one study."""

CLASS_NAMES = {"landbirds": "landbird", "waterbirds": "waterbird", "small_dogs": "small dog", "big_dogs": "big dog"}
"""Class folders of the downloads, as one image of the class is called in a prompt."""


def load_spuco(root: Path, *, classes: Sequence[str] = (), values: Sequence[str] = ()) -> Dataset:
    """One of SpuCo's image folders as one examples table.

    Args:
        root: holds the split folders, or the downloads ``spuco_birds`` and ``spuco_dogs``, of which all that are there
            become one dataset.
        classes: names of the classes, for prompts, in the sorted order of the class folders; empty: the folders'.
        values: names of the spurious values, in the sorted order of their folders; empty: the folders'.

    Raises:
        DataError: no such folder, no images of a split, class or value, or another number of names than of folders.
    """
    root = absolute(root)
    spec = f"spuco:{root}"
    if not root.is_dir():
        raise DataError("there is no such folder", where=spec, now="check the path")
    parts = [root / name for name in DOWNLOADS if (root / name).is_dir()] or [root]
    found = [cell for part in parts for cell in _cells(part)]
    if not found:
        raise DataError("it holds no split of CLASS/VALUE folders", where=spec, now="name the folder that holds train/")
    folders_of_classes = sorted({name for _, name, _, _ in found})
    folders_of_values = sorted({name for _, _, name, _ in found})
    empty = next((name for name in folders_of_values if not any(cell[3] for cell in found if cell[2] == name)), None)
    if empty is not None:
        raise DataError(
            f"no folder {empty!r} of a class holds an image", where=spec, now="unpack its images, or remove the folders"
        )
    named_classes = list(classes) or [CLASS_NAMES.get(name, name.replace("_", " ")) for name in folders_of_classes]
    named_values = list(values) or folders_of_values
    _check_number(spec, "classes", named_classes, folders_of_classes)
    _check_number(spec, "values", named_values, folders_of_values)
    images = [file.relative_to(root).as_posix() for *_, files in found for file in files]
    labels = [folders_of_classes.index(name) for _, name, _, files in found for _ in files]
    codes = [folders_of_values.index(name) for _, _, name, files in found for _ in files]
    splits = [split for split, _, _, files in found for _ in files]
    check_splits(spec, named_classes, labels, splits)
    attributes, columns = value_columns(named_values, codes)
    return make_dataset(
        spec,
        root,
        named_classes,
        attributes,
        {"id": images, "image": images, "label": labels, "split": splits, **columns},
    )


def _cells(part: Path) -> list[tuple[str, str, str, list[Path]]]:
    """(split, class folder, value folder, its images) of every group that has a folder."""
    return [
        (split, of_class.name, of_value.name, image_files(of_value))
        for of_split in subfolders(part)
        if (split := split_name(of_split.name)) is not None
        for of_class in subfolders(of_split)
        for of_value in subfolders(of_class)
    ]


def _check_number(spec: str, what: str, names: Sequence[str], folders: Sequence[str]) -> None:
    if len(names) != len(folders) or len(set(names)) != len(names):
        raise DataError(
            f"{len(set(names))} {what} are named for {len(folders)} folders ({', '.join(folders)})",
            where=spec,
            now=f"name each once, in that order: {what}=NAME,NAME",
        )
