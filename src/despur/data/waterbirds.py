"""Waterbirds: birds on land and on water, with CUB's masks and boxes where they lie nearby (METHOD section 5)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from despur.data.delimited import check_columns, read_delimited
from despur.data.examples import SPLITS, Attribute, Box, Dataset, make_dataset
from despur.data.paths import absolute, check_inside, check_some_exist
from despur.data.splits import check_splits
from despur.errors import DataError

FOLDERS = ("waterbird_complete95_forest2water2", "waterbirds_v1.0")
"""What the two downloads unpack to: the authors' and WILDS'."""

COLUMNS = ("img_id", "img_filename", "y", "split", "place", "place_filename")
CLASSES = ("landbird", "waterbird")
WATER = Attribute("water", "on water", "on land")


def _folder(root: Path) -> Path:
    """The folder that holds ``metadata.csv``: the one named, or a download in it."""
    candidates = [root, *(root / name for name in FOLDERS)]
    for folder in candidates:
        if (folder / "metadata.csv").is_file():
            return folder
    what = "there is no metadata.csv in it" if root.is_dir() else "there is no such folder"
    raise DataError(what, where=f"waterbirds:{root}", now=f"name the folder of {' or '.join(FOLDERS)}")


def _indices(file: Path, column: str, values: Sequence[str], count: int) -> list[int]:
    """Cells as whole numbers in [0, count); another value is an error that names its row, counted from 1."""
    known = {str(number): number for number in range(count)}
    for row, value in enumerate(values, start=1):
        if value not in known:
            raise DataError(
                f"{column} is {value!r} in row {row}", where=file, now=f"it should be one of {', '.join(known)}"
            )
    return [known[value] for value in values]


def _nearby(root: Path, name: str) -> Path | None:
    """CUB's file or folder of that name, inside the dataset or beside it."""
    for folder in (root, root.parent, root / "CUB_200_2011", root.parent / "CUB_200_2011"):
        if (folder / name).exists():
            return folder / name
    return None


def _masks(root: Path, masks: Path | None, images: Sequence[str]) -> list[str | None]:
    """Path of each image's mask relative to the root; None where there is none."""
    folder = _nearby(root, "segmentations") if masks is None else masks
    if folder is None:
        return [None] * len(images)
    if (folder / "segmentations").is_dir():
        folder = folder / "segmentations"
    names = [Path(name).with_suffix(".png") for name in images]
    # Links resolved first: the system follows a linked root before it climbs out of it.
    way = Path(os.path.relpath(folder.resolve(), root.resolve()))
    found = [(way / name).as_posix() if (folder / name).is_file() else None for name in names]
    if masks is not None and not any(found):
        raise DataError(
            f"it holds no mask of these images (the first would be {names[0]})",
            where=folder,
            now="is it CUB's segmentations/ folder?",
        )
    return found


def read_numbered(file: Path, width: int) -> Iterator[list[str]]:
    """The rows of one of CUB's lists: a number, then ``width`` words, the last of which may hold spaces.

    Raises:
        DataError: the file cannot be read, or a line has fewer words.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"it cannot be read ({error})", where=file, now="unpack CUB again") from error
    for row, line in enumerate(lines, start=1):
        words = line.split(maxsplit=width)
        if not words:
            continue
        if len(words) != width + 1:
            raise DataError(f"line {row} is {line!r}", where=file, now="is it CUB's own file?")
        yield words


def read_cub_boxes(file: Path) -> dict[str, Box]:
    """CUB's ``bounding_boxes.txt`` (number x y width height): number to (x0, y0, x1, y1) in pixels."""
    boxes: dict[str, Box] = {}
    for number, *words in read_numbered(file, 4):
        try:
            x, y, width, height = (float(word) for word in words)
        except ValueError as error:
            raise DataError(
                f"the box of image {number} is {' '.join(words)!r}", where=file, now="is it CUB's own file?"
            ) from error
        boxes[number] = (x, y, x + width, y + height)
    return boxes


def _boxes(root: Path, boxes: Path | None, ids: Sequence[str], images: Sequence[str]) -> list[Box | None]:
    """Box of each image; by CUB's ``images.txt`` if it lies beside the boxes, else by the image's number."""
    file = _nearby(root, "bounding_boxes.txt") if boxes is None else boxes
    if file is None:
        return [None] * len(images)
    if file.is_dir():
        file = file / "bounding_boxes.txt"
    known = read_cub_boxes(file)
    names = file.with_name("images.txt")
    if not names.is_file():
        return [known.get(number) for number in ids]
    number_of = {name: number for number, name in read_numbered(names, 1)}
    return [known.get(number_of.get(image, "")) for image in images]


def load_waterbirds(root: Path, masks: Path | None = None, boxes: Path | None = None) -> Dataset:
    """Waterbirds as one examples table, with the attribute ``water``.

    Args:
        root: the unpacked download (either layout), or the folder that holds it.
        masks: CUB's ``segmentations/``; None: looked for inside the dataset and beside it.
        boxes: CUB's ``bounding_boxes.txt`` or its folder; None: looked for likewise.

    Raises:
        DataError: a file, column, value or image is not what the download holds.
    """
    root = _folder(absolute(root))
    spec = f"waterbirds:{root}"
    file = root / "metadata.csv"
    table = read_delimited(file)
    check_columns(
        file,
        table.column_names,
        COLUMNS[:5],
        expected=f"columns: {', '.join(COLUMNS)}",
        hint="is this the complete95 download?",
    )
    ids, images = table["img_id"].to_pylist(), table["img_filename"].to_pylist()
    labels = _indices(file, "y", table["y"].to_pylist(), len(CLASSES))
    place = _indices(file, "place", table["place"].to_pylist(), 2)
    splits = [SPLITS[number] for number in _indices(file, "split", table["split"].to_pylist(), len(SPLITS))]
    check_inside(file, images)
    check_splits(spec, CLASSES, labels, splits)
    check_some_exist(file, root, images)
    columns: dict[str, Sequence[object]] = {
        "id": ids,
        "image": images,
        "label": labels,
        "split": splits,
        "box": _boxes(root, boxes, ids, images),
        "mask": _masks(root, masks, images),
        "water": [bool(water) for water in place],
    }
    return make_dataset(spec, root, CLASSES, (WATER,), columns)
