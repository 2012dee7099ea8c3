"""A folder a class: ``root/train/landbird/*.jpg``, or ``root/landbird/*.jpg`` with splits drawn by a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from despur.data.examples import Dataset, make_dataset
from despur.data.paths import absolute
from despur.data.splits import check_splits, draw_splits, split_name
from despur.data.stores import files_below, stored_root, url_of
from despur.errors import DataError

SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        "jpg",
        "jpeg",
        "jfif",
        "png",
        "gif",
        "webp",
        "bmp",
        "tif",
        "tiff",
        "ppm",
        "pgm",
        "jp2",
        "avif",
        "heic",
        "heif",
    )
)
"""What counts as an image here; a HEIC counts too, and is quarantined by name when it is read."""


def subfolders(root: Path) -> list[Path]:
    """The folders in one, sorted; hidden ones left out."""
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def image_files(folder: Path, *, deep: bool = True) -> list[Path]:
    """Every image in a folder, sorted; nothing hidden. A link to nowhere counts, and is quarantined.

    Args:
        deep: those in folders below it too.
    """
    return sorted(
        file
        for file in (folder.rglob("*") if deep else folder.iterdir())
        if file.suffix.lower() in SUFFIXES
        and not file.is_dir()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


Cell = tuple[str | None, str, list[str]]
"""The split, the class, and the images of one class folder, as paths relative to the root; no split where the folders
of the root are the classes."""


def _cells(root: Path) -> list[Cell]:
    """What lies in the class folders; a class may be empty.

    A root without a folder for training has no folders for splits.
    """
    named = [(split_name(folder.name), folder) for folder in subfolders(root)]
    if any(split == "train" for split, _ in named):
        homes = [(split, folder) for split, parent in named if split is not None for folder in subfolders(parent)]
    else:
        homes = [(None, folder) for _, folder in named]
    return [
        (split, folder.name, [file.relative_to(root).as_posix() for file in image_files(folder)])
        for split, folder in homes
    ]


def _stored_cells(root: Path) -> list[Cell]:
    """The same of a folder in a store, which knows no empty folders."""
    parts_of = {name: name.split("/") for name in files_below(root) if Path(name).suffix.lower() in SUFFIXES}
    shown = {name: parts for name, parts in parts_of.items() if not any(part.startswith(".") for part in parts)}
    depth = 1 if any(split_name(parts[0]) == "train" for parts in shown.values() if len(parts) > 2) else 0
    cells: dict[tuple[str | None, str], list[str]] = {}
    for name, parts in shown.items():
        split = split_name(parts[0]) if depth else None
        if len(parts) > depth + 1 and (split is not None or not depth):
            cells.setdefault((split, parts[depth]), []).append(name)
    return [(split, name, images) for (split, name), images in cells.items()]


@dataclass(frozen=True)
class _Listing:
    """What a folder holds: images in order, the place of each one's class in ``classes``, and splits if it has any."""

    spec: str
    root: Path
    classes: list[str]
    images: list[str]
    labels: list[int]
    splits: list[str]


def _listing(place: Path | str) -> _Listing:
    """Every image below the class folders.

    Raises:
        DataError: no such folder, fewer than two classes, an empty class, or a name that is not UTF-8.
    """
    stored = "://" in str(place)
    root = stored_root(str(place)) if stored else absolute(Path(place))
    spec = f"folder:{url_of(root) if stored else root}"
    if not stored and not root.is_dir():
        raise DataError("there is no such folder", where=spec, now="check the path")
    cells = _stored_cells(root) if stored else _cells(root)
    classes = sorted({name for _, name, _ in cells})
    if len(classes) < 2:
        raise DataError(
            f"it holds {len(classes)} class folders", where=spec, now="a study needs a folder of images for each class"
        )
    empty = next((name for split, name, files in cells if not files and split in (None, "train")), None)
    if empty is not None:
        raise DataError(f"the folder {empty!r} holds no images", where=spec, now="add images or remove the folder")
    images = [name for _, _, files in cells for name in files]
    foreign = [name for name in images if name != name.encode(errors="replace").decode()]
    if foreign:
        raise DataError(f"the name {foreign[0]!r} is not UTF-8", where=spec, now="rename the file")
    labels = [classes.index(name) for _, name, files in cells for _ in files]
    given = [split for split, _, files in cells for _ in files if split is not None]
    return _Listing(spec, root, classes, images, labels, given)


def _dataset(found: _Listing, splits: list[str]) -> Dataset:
    return make_dataset(
        found.spec,
        found.root,
        found.classes,
        (),
        {"id": found.images, "image": found.images, "label": found.labels, "split": splits},
    )


def load_test_folder(root: Path | str) -> Dataset:
    """Images whose class is the folder that they lie in, all of them to be judged and none to be trained on.

    Args:
        root: as :func:`load_folder` takes it; images of every split count.

    Raises:
        DataError: no such folder, fewer than two classes, or an empty class.
    """
    found = _listing(root)
    return _dataset(found, ["test"] * len(found.images))


def load_folder(root: Path | str, *, seed: int = 0) -> Dataset:
    """Images whose class is the folder that they lie in; classes are sorted by name.

    Args:
        root: holds folders train, val and test (also training, valid, validation, dev) of class folders, or class
            folders alone; a folder, or the address of one in a store (``s3://BUCKET/FOLDER``).
        seed: draws the splits where the folders do not give them: stratified, 80 / 10 / 10.

    Raises:
        DataError: no such folder, fewer than two classes, a class or a split without images.
    """
    found = _listing(root)
    splits = found.splits or draw_splits(found.spec, found.classes, found.labels, seed)
    check_splits(found.spec, found.classes, found.labels, splits)
    return _dataset(found, splits)
