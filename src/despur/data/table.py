"""A table of images: CSV or Parquet with ``image, label, split``, and whatever else is known about each image."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from despur.data.delimited import check_columns, read_delimited
from despur.data.examples import Attribute, Box, Dataset, make_dataset
from despur.data.paths import absolute, check_inside, check_some_exist
from despur.data.splits import check_splits, split_name
from despur.data.stores import stored_root
from despur.errors import DataError

NEEDED = ("image", "label", "split")
CORNERS = ("x0", "y0", "x1", "y1")
KNOWN = frozenset({*NEEDED, *CORNERS, "id", "box", "mask"})
"""Columns with a meaning of their own; any other may be an attribute."""

EXPECTED = "columns: image, label, split; optional: id, mask, box or x0, y0, x1, y1, and 0/1 columns as attributes"

YES_OR_NO = {"0": False, "1": True, "false": False, "true": True, "0.0": False, "1.0": True}

Column = list[Any]


def read_columns(file: Path, needed: Sequence[str], *, expected: str) -> dict[str, Column]:
    """The columns of a CSV, TSV or Parquet file as plain values; blank text is None.

    Args:
        needed: columns that must be there.
        expected: what the columns should be, for the message.

    Raises:
        DataError: the file cannot be read, lacks a column or has no rows.
    """
    suffix = file.suffix.lower()
    if suffix in (".csv", ".tsv"):
        table = read_delimited(file)
    elif suffix in (".parquet", ".pq"):
        try:
            with pyarrow.parquet.ParquetFile(file) as stored:
                table = stored.read()
        except FileNotFoundError as error:
            raise DataError("there is no such file", where=file, now="check the path") from error
        except (pa.ArrowException, OSError) as error:
            raise DataError("it does not read as Parquet", where=file, now="write it again") from error
    else:
        raise DataError(
            f"a table cannot be a {suffix or 'file without suffix'}", where=file, now="use .csv or .parquet"
        )
    names = [name.strip() for name in table.column_names]
    check_columns(file, names, needed, expected=expected)
    if table.num_rows == 0:
        raise DataError("it has no rows", where=file, now="list at least one image")
    columns = (column.to_pylist() for column in table.columns)
    return {name: [_cell(value) for value in column] for name, column in zip(names, columns, strict=True)}


def _cell(value: Any) -> Any:
    """Text stripped, and None where nothing is left of it or a number is NaN (pandas' blank)."""
    if isinstance(value, str):
        return value.strip() or None
    return None if isinstance(value, float) and math.isnan(value) else value


def _filled(file: Path, name: str, column: Column) -> Column:
    if None in column:
        raise DataError(f"{name} is blank in row {column.index(None) + 1}", where=file, now="fill it in")
    return column


def number_labels(column: Column) -> tuple[list[str], list[int]]:
    """Class names and each row's index into them: numbers in their order, names in the alphabet's."""
    words = [str(int(value)) if isinstance(value, float) and value.is_integer() else str(value) for value in column]
    distinct = set(words)
    numbers = all(re.fullmatch(r"\d+", word) for word in distinct)
    classes = sorted(distinct, key=int) if numbers else sorted(distinct)
    index = {name: place for place, name in enumerate(classes)}
    return classes, [index[word] for word in words]


def _splits(file: Path, column: Column) -> list[str]:
    meant = {word: split_name(str(word)) for word in set(column)}
    for row, word in enumerate(column, start=1):
        if meant[word] is None:
            raise DataError(f"split is {word!r} in row {row}", where=file, now="use train, val or test")
    return [str(meant[word]) for word in column]


def _box(file: Path, row: int, corners: Sequence[Any]) -> Box | None:
    """Four numbers that span an area; None where all are blank."""
    if all(value is None for value in corners):
        return None
    try:
        x0, y0, x1, y1 = (float(value) for value in corners)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the box in row {row} is {list(corners)}",
            where=file,
            now="a box is four numbers: x0, y0, x1, y1, in pixels",
        ) from error
    if not (x0 < x1 < math.inf and y0 < y1 < math.inf and min(x0, y0) > -math.inf):
        raise DataError(
            f"the box in row {row} ({x0:g}, {y0:g}, {x1:g}, {y1:g}) has no area",
            where=file,
            now="a box is x0, y0, x1, y1 (corners, not width and height), in pixels",
        )
    return x0, y0, x1, y1


def _boxes(file: Path, columns: dict[str, Column], rows: int) -> list[Box | None]:
    """From ``box`` (a list, or text such as "[10, 20, 110, 220]") or from the four corner columns."""
    if "box" in columns:
        found: list[Sequence[Any]] = [
            (None,) * 4
            if cell is None
            else re.split(r"[\s,;]+", cell.strip("[]() "))
            if isinstance(cell, str)
            else cell
            for cell in columns["box"]
        ]
    elif any(name in columns for name in CORNERS):
        missing = [name for name in CORNERS if name not in columns]
        if missing:
            raise DataError(f"it has box columns but no {missing[0]!r}", where=file, now="a box needs x0, y0, x1, y1")
        found = list(zip(*(columns[name] for name in CORNERS), strict=True))
    else:
        return [None] * rows
    return [_box(file, row, corners) for row, corners in enumerate(found, start=1)]


def as_attribute(file: str | Path, name: str, column: Column) -> list[bool] | None:
    """A column as an attribute; None: it holds something else than yes and no.

    Raises:
        DataError: it holds yes and no, and blanks.
    """
    meant = {value: YES_OR_NO.get(str(value).lower()) for value in set(map(str, column)) - {"None"}}
    if not meant or None in meant.values():
        return None
    if None in column:
        raise DataError(
            f"the attribute {name!r} is blank in row {column.index(None) + 1}",
            where=file,
            now="fill it with 0 or 1, or drop the column",
        )
    return [bool(meant[str(value)]) for value in column]


def named_attribute(name: str) -> Attribute:
    """An attribute of which only the name is known: its phrase is "with NAME"."""
    return Attribute(name, f"with {name.replace('_', ' ')}")


def load_table(file: Path, *, allow_outside: bool = False, images: str | None = None) -> Dataset:
    """The dataset that a table lists.

    Columns ``image`` (a path relative to the table's folder), ``label`` (a class name or a number) and ``split`` are
    needed; ``id``, ``mask`` (a path) and ``box`` or ``x0, y0, x1, y1`` (upright pixels) are optional. Every other
    column that holds only 0 and 1 (or false and true) is an attribute whose phrase is "with NAME"; the rest are left
    alone. A single image that is not there is no error here: it is quarantined when it is read.

    Args:
        file: ``.csv``, ``.tsv`` or ``.parquet``.
        allow_outside: accept paths that lead out of the table's folder.
        images: address of the folder in a store that paths are relative to (``s3://BUCKET/FOLDER``); None: the table's
            own folder.

    Raises:
        DataError: a file, column, value, class or split is not as described; rows are counted from 1.
    """
    file = absolute(file)
    columns = read_columns(file, NEEDED, expected=EXPECTED)
    root = file.parent if images is None else stored_root(images)
    names = [str(name) for name in _filled(file, "image", columns["image"])]
    classes, labels = number_labels(_filled(file, "label", columns["label"]))
    splits = _splits(file, _filled(file, "split", columns["split"]))
    masks = [None if name is None else str(name) for name in columns.get("mask", [None] * len(names))]
    if not allow_outside:
        for paths in (names, masks):
            check_inside(file, paths, now="allow it with --allow-outside if you trust this table")
    check_splits(str(file), classes, labels, splits)
    check_some_exist(file, root, names)
    found = {name: as_attribute(file, name, column) for name, column in columns.items() if name not in KNOWN}
    attributes = {name: values for name, values in found.items() if values is not None}
    ids = [str(value) for value in _filled(file, "id", columns["id"])] if "id" in columns else names
    return make_dataset(
        f"table:{file}" if images is None else f"table:{file},images={images}",
        root,
        classes,
        [named_attribute(name) for name in attributes],
        {
            "id": ids,
            "image": names,
            "label": labels,
            "split": splits,
            "box": _boxes(file, columns, len(names)),
            "mask": masks,
            **attributes,
        },
    )
