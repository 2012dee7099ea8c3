"""The examples table: what every dataset becomes, whatever its download looks like."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int

from despur.errors import DataError, nearest

SPLITS = ("train", "val", "test")

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in upright pixels."""

BASE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("box", pa.list_(pa.float32(), 4)),
        pa.field("mask", pa.string()),
    ]
)
"""``image`` and ``mask`` are paths relative to the dataset's root; ``box`` is (x0, y0, x1, y1), in upright pixels."""


@dataclass(frozen=True)
class Attribute:
    """Something a phrase can name that an image has or lacks.

    Attributes:
        name: its column in the examples table ("water").
        phrase: what follows a class name where it is present ("on water").
        absent_phrase: what follows a class name where it is absent ("on land"); None: the class name stands alone.
    """

    name: str
    phrase: str
    absent_phrase: str | None = None


@dataclass(frozen=True)
class Dataset:
    """Images with labels, splits, and any attributes, boxes and masks that are known.

    Attributes:
        spec: how the user named it ("waterbirds:DIR").
        root: the folder that paths in the table are relative to.
        classes: class names; a label is an index into them.
        attributes: the boolean columns that follow the base columns, in order.
        table: ``BASE_SCHEMA`` and one bool column an attribute, one row an image.
    """

    spec: str
    root: Path
    classes: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def ids(self) -> list[str]:
        """Ids in the order of the rows."""
        return self.table["id"].to_pylist()

    @property
    def labels(self) -> Int[np.ndarray, "images"]:
        """Class index of each image."""
        return self.table["label"].to_numpy().astype(np.int64)

    def image_paths(self) -> list[Path]:
        """Where each image lies."""
        return [self.root / name for name in self.table["image"].to_pylist()]

    def rows(self, keep: Bool[np.ndarray, "images"] | Int[np.ndarray, "rows"]) -> Dataset:
        """The chosen rows, by a boolean mask or by indices, in the order given."""
        indices = np.flatnonzero(keep) if keep.dtype == np.bool_ else keep
        return replace(self, table=self.table.take(pa.array(indices, type=pa.int64())))

    def split_rows(self, name: str) -> Int[np.ndarray, "rows"]:
        """Indices of one split's rows.

        Raises:
            DataError: the split has none.
        """
        rows = np.flatnonzero(np.asarray(self.table["split"].to_pylist(), dtype=object) == name)
        if not len(rows):
            raise DataError(
                f"the split {name!r} has no images", where=self.spec, now=f"a study needs all of {', '.join(SPLITS)}"
            )
        return rows

    def split(self, name: str) -> Dataset:
        """One split's rows; refused as by :meth:`split_rows` where there are none."""
        return self.rows(self.split_rows(name))

    def attribute(self, name: str | None = None) -> Attribute:
        """The attribute of that name; with None the only one there is.

        Raises:
            DataError: there is no such attribute, none at all, or (with None) more than one.
        """
        known = [attribute.name for attribute in self.attributes]
        if not known:
            raise DataError(
                "the dataset has no attributes",
                where=self.spec,
                now="give one, as a 0/1 column of a table (table:FILE)",
            )
        if name is None:
            if len(known) != 1:
                raise DataError(
                    f"the dataset has {len(known)} attributes ({', '.join(known)})",
                    where=self.spec,
                    now="say which one is spurious with --attribute",
                )
            return self.attributes[0]
        if name not in known:
            raise DataError(f"there is no attribute {name!r}", where=self.spec, now=nearest(name, known))
        return self.attributes[known.index(name)]

    def present(self, attribute: str) -> Bool[np.ndarray, "images"]:
        """Whether each image has the attribute."""
        return self.table[self.attribute(attribute).name].to_numpy().astype(np.bool_)

    def groups(self, attribute: str) -> Int[np.ndarray, "images"]:
        """Group index of each image: 2 * label + present."""
        return 2 * self.labels + self.present(attribute)

    def group_phrases(self, attribute: Attribute) -> list[str]:
        """What names each group in a prompt, in the order of ``groups``: "waterbird on land", "waterbird on water"."""
        absent = "" if attribute.absent_phrase is None else f" {attribute.absent_phrase}"
        return [f"{name}{ending}" for name in self.classes for ending in (absent, f" {attribute.phrase}")]


def make_dataset(
    spec: str,
    root: Path,
    classes: Sequence[str],
    attributes: Sequence[Attribute],
    columns: dict[str, Sequence[object]],
) -> Dataset:
    """A dataset from plain columns.

    Args:
        columns: ``id, image, label, split`` and every attribute's column; ``box`` and ``mask`` may be missing.

    Raises:
        DataError: no rows, a label outside the classes, an unknown split, two rows with one id, a class or attribute
            without a name that can be written, or an attribute that is named twice or as a base column is.
    """
    _check_names(spec, "class", classes)
    _check_names(spec, "attribute", [attribute.name for attribute in attributes])
    named = [attribute.name for attribute in attributes]
    taken = next((name for place, name in enumerate(named) if name in (*BASE_SCHEMA.names, *named[:place])), None)
    if taken is not None:
        what = "is named twice" if taken not in BASE_SCHEMA.names else "is called as a column of every dataset is"
        raise DataError(f"the attribute {taken!r} {what}", where=spec, now="rename it or leave it out")
    count = len(columns["id"])
    if count == 0:
        raise DataError("it holds no images", where=spec, now="check the path")
    wrong = sorted(set(columns["split"]) - set(SPLITS), key=str)
    if wrong:
        raise DataError(f"unknown split {wrong[0]!r}", where=spec, now=f"splits are {', '.join(SPLITS)}")
    if len(set(columns["id"])) != count:
        seen: set[object] = set()
        twice = next(name for name in columns["id"] if name in seen or seen.add(name))
        raise DataError(f"two rows have the id {twice!r}", where=spec, now="make the ids unique")
    labels = np.asarray(columns["label"], dtype=np.int64)
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(f"a label lies outside the {len(classes)} classes", where=spec)
    filled = {"box": [None] * count, "mask": [None] * count, **columns}
    schema = BASE_SCHEMA
    for attribute in attributes:
        schema = schema.append(pa.field(attribute.name, pa.bool_(), nullable=False))
    table = pa.table({field.name: pa.array(filled[field.name], type=field.type) for field in schema}, schema=schema)
    return Dataset(spec, root, tuple(classes), tuple(attributes), table)


def is_text(text: str) -> bool:
    """Whether a file can hold it: JSON may spell halves of surrogate pairs, which are no letters."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _check_names(spec: str, what: str, names: Sequence[str]) -> None:
    """Refuse names that no prompt and no file can hold: blank ones, and halves of a surrogate pair."""
    for name in names:
        if not name.strip():
            raise DataError(f"a name of a {what} is blank ({name!r})", where=spec, now="give it a name")
        if not is_text(name):
            raise DataError(f"the {what} {name!r} is no text", where=spec, now="rename it")


def to_arrow(dataset: Dataset) -> pa.Table:
    """The table as it is written to ``examples.parquet``: classes, attributes, root and spec ride in its metadata."""
    about = {
        "spec": dataset.spec,
        "root": str(dataset.root),
        "classes": list(dataset.classes),
        "attributes": [[a.name, a.phrase, a.absent_phrase] for a in dataset.attributes],
    }
    return dataset.table.replace_schema_metadata({"despur": json.dumps(about)})


def from_arrow(table: pa.Table) -> Dataset:
    """The inverse of :func:`to_arrow`.

    Raises:
        DataError: the table was not written by despur.
    """
    written = (table.schema.metadata or {}).get(b"despur")
    if written is None:
        raise DataError(
            "the table does not say what its columns mean",
            where="examples.parquet",
            now="embed the dataset again, into a new workspace",
        )
    about = json.loads(written)
    attributes = tuple(Attribute(*entry) for entry in about["attributes"])
    return Dataset(
        about["spec"], Path(about["root"]), tuple(about["classes"]), attributes, table.replace_schema_metadata(None)
    )
