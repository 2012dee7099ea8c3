"""WILDS' downloads with groups: ``waterbirds_v1.0`` and ``celebA_v1.0`` (Koh et al. 2021)."""

from __future__ import annotations

from pathlib import Path

from despur.data.celeba import ATTRIBUTES, load_celeba
from despur.data.examples import Dataset
from despur.data.paths import absolute
from despur.data.waterbirds import load_waterbirds
from despur.errors import DataError


def load_wilds(root: Path) -> Dataset:
    """A dataset as WILDS unpacks it, told by what it holds.

    Args:
        root: ``waterbirds_v1.0`` or ``celebA_v1.0``. Its class is the bird or the blond hair, its attribute the water
            or the sex, as in WILDS.

    Raises:
        DataError: it is neither of the two, or not as they are.
    """
    root = absolute(root)
    if (root / f"{ATTRIBUTES}.csv").is_file():
        return load_celeba(root)
    if (root / "metadata.csv").is_file():
        return load_waterbirds(root)
    raise DataError(
        "it holds neither metadata.csv nor list_attr_celeba.csv" if root.is_dir() else "there is no such folder",
        where=f"wilds:{root}",
        now="name the folder of waterbirds_v1.0 or celebA_v1.0; other data of WILDS have no groups to read",
    )
