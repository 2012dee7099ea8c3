"""Paths that a dataset's own files name: kept inside the dataset's folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from despur.data.stores import exists, is_stored
from despur.errors import DataError
from despur.workspace import at_home

LOOKED_FOR = 20
"""Images of which one must be there, in a store."""


def absolute(path: Path) -> Path:
    """A path as it is kept in a workspace: absolute, with "~" and ".." worked out and links left as they are."""
    return Path(os.path.normpath(at_home(path).absolute()))


def leads_outside(name: str) -> bool:
    """Whether a path, by its letters, is absolute or climbs out of the folder that it is relative to."""
    return Path(name).is_absolute() or Path(os.path.normpath(name)).parts[:1] == (os.pardir,)


def check_inside(where: str | Path, names: Iterable[str | None], *, now: str | None = None) -> None:
    """Refuse paths that lead out of the dataset's folder; None stands for no path.

    Raises:
        DataError: naming the first such path and its row, counted from 1.
    """
    for row, name in enumerate(names, start=1):
        if name is not None and leads_outside(name):
            raise DataError(f"the path {name!r} in row {row} leads out of the dataset's folder", where=where, now=now)


def check_some_exist(where: str | Path, root: Path, names: Iterable[str]) -> None:
    """Refuse a dataset none of whose images is there; single missing ones are quarantined when they are read.

    Raises:
        DataError: naming the first path looked for.
    """
    first: Path | None = None
    # A store is asked over the network, so that not all of millions are looked for.
    for name in islice(names, LOOKED_FOR) if is_stored(root) else names:
        if exists(root / name):
            return
        first = first or root / name
    raise DataError(
        f"none of the images that it lists exists (the first would be {first})",
        where=where,
        now="are the images unpacked there?",
    )
