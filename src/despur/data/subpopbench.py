"""SubpopBench's metadata: a CSV of ``filename, split, y, a`` a dataset (Yang et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from despur.data.delimited import check_columns, read_delimited
from despur.data.examples import SPLITS, Dataset, make_dataset
from despur.data.paths import absolute, check_inside, check_some_exist
from despur.data.splits import check_splits, split_name
from despur.data.values import value_columns
from despur.errors import DataError

COLUMNS = ("filename", "split", "y", "a")

LEFT_OUT = frozenset({"mixed_rand", "no_fg", "only_fg"})
"""Further splits of the backgrounds challenge, which change the images rather than draw others."""


@dataclass(frozen=True)
class _Known:
    """What a metadata file does not tell: what its numbers mean, and where its images lie beside it."""

    classes: tuple[str, ...]
    values: tuple[str, ...]
    images: str = "."


KNOWN = {
    "metadata_waterbirds.csv": _Known(
        ("landbird", "waterbird"), ("land", "water"), "waterbird_complete95_forest2water2"
    ),
    "metadata_celeba.csv": _Known(
        ("person without blond hair", "person with blond hair"), ("woman", "man"), "img_align_celeba"
    ),
    "metadata_metashift.csv": _Known(("dog", "cat"), ("outdoor", "indoor")),
}


def load_subpopbench(
    file: Path, *, classes: Sequence[str] = (), values: Sequence[str] = (), allow_outside: bool = False
) -> Dataset:
    """One of SubpopBench's image datasets as one examples table.

    Args:
        file: ``metadata_waterbirds.csv``, ``metadata_celeba.csv``, ``metadata_metashift.csv``, or any other of its
            columns.
        classes: names of the values of ``y``, in order; needed where the file is none of these.
        values: names of the values of ``a``, likewise. Two are one attribute, the second; more are one each.
        allow_outside: accept paths that lead out of the file's folder; SubpopBench writes some absolute.

    Raises:
        DataError: a column or value is not as described, names are missing, or a path leads out of the folder.
    """
    file = absolute(file)
    spec = f"subpopbench:{file}"
    if file.is_dir():
        there = ", ".join(sorted(table.name for table in file.glob("*.csv"))[:10])
        raise DataError("it is a folder", where=spec, now=f"name the table in it ({there or 'there is none'})")
    table = read_delimited(file)
    check_columns(file, table.column_names, COLUMNS, expected=f"columns: {', '.join(COLUMNS)}")
    rows = [row for row in table.select(list(COLUMNS)).to_pylist() if row["split"] not in LEFT_OUT]
    if not rows:
        raise DataError("it lists no images", where=file, now="fetch it again")
    known = KNOWN.get(file.name, _Known((), ()))
    root = file.parent / known.images
    named_classes, labels = _named(file, "y", [row["y"] for row in rows], tuple(classes) or known.classes, "classes")
    named_values, codes = _named(file, "a", [row["a"] for row in rows], tuple(values) or known.values, "values")
    splits = [_split(file, number, row["split"]) for number, row in enumerate(rows, start=1)]
    images = [_inside(root, row["filename"]) for row in rows]
    if not allow_outside:
        check_inside(file, images, now="allow it with --allow-outside if you trust this table")
    check_splits(spec, named_classes, labels, splits)
    check_some_exist(file, root, images)
    attributes, columns = value_columns(named_values, codes)
    return make_dataset(
        spec,
        root,
        named_classes,
        attributes,
        {"id": images, "image": images, "label": labels, "split": splits, **columns},
    )


def _named(
    file: Path, column: str, cells: Sequence[str], names: Sequence[str], option: str
) -> tuple[list[str], list[int]]:
    """The names of a column's numbers, and the numbers; a column of zeros needs no names."""
    wrong = next((cell for cell in cells if not cell.isdecimal()), None)
    if wrong is not None:
        raise DataError(f"{column} is {wrong!r}", where=file, now="it should be a whole number of 0 or more")
    numbers = [int(cell) for cell in cells]
    count = max(numbers, default=0) + 1
    if count == 1:
        return list(names[:1]) or ["0"], numbers
    if len(names) < count:
        raise DataError(
            f"{column} goes up to {count - 1}, and {len(names) or 'no'} of its values are named",
            where=file,
            now=f"name them, from 0 on: {option}=NAME,NAME",
        )
    return list(names), numbers


def _split(file: Path, row: int, cell: str) -> str:
    """0, 1 and 2, or a word."""
    if cell in ("0", "1", "2"):
        return SPLITS[int(cell)]
    split = split_name(cell)
    if split is None:
        raise DataError(f"split is {cell!r} in row {row}", where=file, now="it should be 0, 1, 2 or train, val, test")
    return split


def _inside(root: Path, name: str) -> str:
    """An absolute path that leads into the dataset's folder, as a relative one."""
    path = Path(name)
    return path.relative_to(root).as_posix() if path.is_absolute() and path.is_relative_to(root) else name
