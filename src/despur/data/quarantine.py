"""What could not be read, and how much of that is too much."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from despur.data.examples import Dataset
from despur.data.images import UNREADABLE, UnreadableImage, read_image
from despur.errors import DataError, SettingsError

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)

SPLITS = b"splits"
"""Key of the table's metadata: how many of its images are of each split."""

MAX_UNREADABLE = 0.01
"""Share of a dataset's images that may be unreadable before a run stops."""


def quarantine_table(entries: Iterable[tuple[str, str, str]], dataset: Dataset | None = None) -> pa.Table:
    """The table that is written to ``quarantine.parquet``.

    Args:
        entries: (id, image, reason) of each unreadable image; the table keeps their order.
        dataset: where they come from; how many of each split there are then rides in the table's metadata.
    """
    rows = [dict(zip(QUARANTINE_SCHEMA.names, entry, strict=True)) for entry in entries]
    table = pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)
    if dataset is None:
        return table
    splits = dict(zip(dataset.ids, dataset.table["split"].to_pylist(), strict=True))
    return table.replace_schema_metadata({SPLITS: json.dumps(Counter(splits[row["id"]] for row in rows))})


def absent_rows(contents: Sequence[str]) -> list[int]:
    """The places of images that cannot be opened.

    Args:
        contents: fingerprints, as :func:`~despur.data.images.fingerprint_images` gives them.
    """
    return [row for row, one in enumerate(contents) if one == UNREADABLE]


def absent_table(dataset: Dataset, rows: Sequence[int]) -> pa.Table:
    """Why the images in these rows cannot be opened, as :func:`quarantine_table` has it."""
    missing = dataset.rows(np.array(rows, dtype=np.int64))
    names, images = missing.ids, missing.table["image"].to_pylist()
    return quarantine_table(zip(names, images, map(_why_absent, missing.image_paths()), strict=True), missing)


def _why_absent(path: Path) -> str:
    try:
        read_image(path)
    except UnreadableImage as problem:
        return problem.reason
    return "it was not there a moment ago"


def count_quarantined(quarantine: pa.Table, split: str | None = None) -> int:
    """How many images are quarantined: of one split, where the table says of which splits they are; else all."""
    known = quarantine.schema.metadata or {}
    if split is None or SPLITS not in known:
        return quarantine.num_rows
    return json.loads(known[SPLITS]).get(split, 0)


ACCEPT_MORE = "mend or remove them, or accept more with --max-unreadable"


def check_share(max_unreadable: float) -> None:
    """Refuse an accepted share of unreadable images that is outside [0, 1].

    Raises:
        SettingsError: it is.
    """
    if not 0.0 <= max_unreadable <= 1.0:
        raise SettingsError(f"{max_unreadable} is no share of the images", where="max_unreadable", now="give 0 to 1")


def check_unreadable(
    quarantine: pa.Table,
    total: int,
    max_unreadable: float = MAX_UNREADABLE,
    *,
    where: str | Path,
    now: str = ACCEPT_MORE,
) -> None:
    """Stop where more of the images are unreadable than the user accepts.

    Args:
        quarantine: as :func:`quarantine_table` makes it.
        total: how many images the dataset lists, the unreadable ones included.
        max_unreadable: accepted share, in [0, 1].
        where: the dataset's spec or folder, for the message.
        now: what to do, for the message; by default what a command with ``--max-unreadable`` advises.

    Raises:
        DataError: naming how many, and the first three with their reasons.
        SettingsError: the share is none.
    """
    check_share(max_unreadable)
    count = quarantine.num_rows
    if count <= max_unreadable * total:
        return
    named = "; ".join(f"{row['image']} ({row['reason']})" for row in quarantine.slice(0, 3).to_pylist())
    raise DataError(
        f"{count} of {total} images cannot be read, more than the {max_unreadable:.3g} share accepted: "
        f"{named}{'; ...' if count > 3 else ''}",
        where=where,
        now=now,
    )
