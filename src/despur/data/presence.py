"""Which images show an attribute, where another file says so: a table of 0/1 columns, or detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from despur.data.paths import absolute
from despur.data.table import Column, as_attribute, read_columns
from despur.errors import DataError, nearest

EXPECTED = "columns: image (or id) and 0/1 columns; or id, phrase, score, as in detections.parquet"


def read_presence(file: Path, images: Sequence[str], names: Sequence[str] = ()) -> dict[str, list[bool]]:
    """Presence of attributes in each of the images.

    Args:
        file: CSV, TSV or Parquet. Either one row an image, named in ``image`` or ``id``, and 0/1 columns; or one row a
            sighting, with ``id`` and ``phrase``, where an image without a row does not show the phrase.
        images: names of the images, as the file names them.
        names: which columns or phrases; empty: all 0/1 columns (detections need at least one name).

    Returns:
        For each attribute, whether each image shows it.

    Raises:
        DataError: the file is not such a table, lacks an image or has no such attribute.
    """
    file = absolute(file)
    columns = read_columns(file, (), expected=EXPECTED)
    key = "image" if "image" in columns else "id"
    if key not in columns:
        raise DataError("it has neither a column 'image' nor 'id'", where=file, now=f"expected {EXPECTED}")
    if "phrase" in columns:
        return _sighted(file, columns, images, names)
    return _stated(file, columns, key, images, names)


def _sighted(
    file: Path, columns: Mapping[str, Column], images: Sequence[str], names: Sequence[str]
) -> dict[str, list[bool]]:
    if not names:
        raise DataError("it holds detections of many phrases", where=file, now="say which one with attribute=PHRASE")
    phrases = sorted(set(map(str, columns["phrase"])))
    for name in names:
        if name not in phrases:
            raise DataError(f"no image shows {name!r}", where=file, now=nearest(name, phrases))
    seen = set(zip(map(str, columns["id"]), columns["phrase"], strict=True))
    return {name: [(image, name) in seen for image in images] for name in names}


def _stated(
    file: Path, columns: Mapping[str, Column], key: str, images: Sequence[str], names: Sequence[str]
) -> dict[str, list[bool]]:
    for name in names:
        if name not in columns:
            raise DataError(f"it has no column {name!r}", where=file, now=nearest(name, list(columns)))
    row_of = {str(image): row for row, image in enumerate(columns[key])}
    absent = next((image for image in images if image not in row_of), None)
    if absent is not None:
        raise DataError(f"it has no row for the image {absent!r}", where=file, now="give every image a row")
    rows = [row_of[image] for image in images]
    found: dict[str, list[bool]] = {}
    for name in names or [name for name in columns if name != key]:
        values = as_attribute(file, name, [columns[name][row] for row in rows])
        if values is not None:
            found[name] = values
        elif names:
            raise DataError(
                f"the column {name!r} holds more than 0 and 1", where=file, now="write yes as 1 and no as 0"
            )
    if not found:
        raise DataError("it has no column of 0 and 1", where=file, now=f"expected {EXPECTED}")
    return found
