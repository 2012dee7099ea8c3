"""Training, validation and test: what people call them, and how they are drawn where nobody did."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from despur.data.examples import SPLITS
from despur.errors import DataError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def split_name(word: str) -> str | None:
    """The split that a person means by a word ("Validation"); None: no split is called that."""
    return SPLIT_NAMES.get(word.strip().lower())


def draw_splits(spec: str, classes: Sequence[str], labels: Sequence[int], seed: int) -> list[str]:
    """Splits drawn class by class: a tenth (at least one image) to val, as many to test, the rest to train.

    Args:
        labels: of each image, indices into ``classes``.
        seed: the same seed and labels give the same splits.

    Raises:
        DataError: a class has fewer than three images.
    """
    return draw_missing_splits(spec, classes, labels, ["train"] * len(labels), seed)


def draw_missing_splits(
    spec: str, classes: Sequence[str], labels: Sequence[int], splits: Sequence[str], seed: int
) -> list[str]:
    """Splits completed: each of val and test that no image has gets a tenth of every class's training images.

    Args:
        labels: of each image, indices into ``classes``.
        splits: of each image, as far as they are given.
        seed: the same seed, labels and splits give the same draw.

    Raises:
        DataError: nothing of a class is left to train on.
    """
    drawn = np.asarray(splits, dtype=object)
    missing = [name for name in SPLITS if name not in splits]
    label_of = np.asarray(labels)
    generator = np.random.default_rng(seed)
    for index, name in enumerate(classes):
        rows = generator.permutation(np.flatnonzero((label_of == index) & (drawn == "train")))
        held = max(1, round(len(rows) / 10))
        if missing and 0 < len(rows) <= held * len(missing):
            raise DataError(
                f"the class {name!r} has {len(rows)} images to train on, too few to draw {' and '.join(missing)} from",
                where=spec,
                now="add images or remove the class",
            )
        for place, split in enumerate(missing):
            drawn[rows[place * held : (place + 1) * held]] = split
    return drawn.tolist()


def check_splits(spec: str, classes: Sequence[str], labels: Sequence[int], splits: Sequence[str]) -> None:
    """Refuse a dataset that cannot be trained and judged.

    Raises:
        DataError: fewer than two classes, a split without images, or a class that no training image has.
    """
    if len(classes) < 2:
        raise DataError(f"it has one class ({', '.join(classes)})", where=spec, now="a study needs at least two")
    for name in SPLITS:
        if name not in splits:
            raise DataError(
                f"the split {name!r} has no images", where=spec, now=f"a study needs all of {', '.join(SPLITS)}"
            )
    trained = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    unseen = [name for label, name in enumerate(classes) if label not in trained]
    if unseen:
        raise DataError(
            f"the class {unseen[0]!r} has no training images",
            where=spec,
            now="is it a spelling mistake? give it training images or remove it",
        )


def hold_out(strata: Sequence[object], *, each: int, seed: int) -> list[bool]:
    """Which training images are held out for validation: some of each stratum, drawn by the seed.

    The two-class studies of ImageNet hold out 25 images per attribute value and class (METHOD section 5), a stratum
    being one (class, value). Half of a stratum with no more images than that is held out: some are left to train on.

    Args:
        strata: of each image; two images of equal strata are drawn together.
        each: images held out of every stratum.
        seed: the same seed and strata give the same draw.
    """
    generator = np.random.default_rng(seed)
    rows_of: dict[object, list[int]] = {}
    for row, stratum in enumerate(strata):
        rows_of.setdefault(stratum, []).append(row)
    held = np.zeros(len(strata), dtype=bool)
    # Sorted, so that the draw of one stratum does not hang on which image of another comes first.
    for stratum in sorted(rows_of, key=repr):
        rows = np.asarray(rows_of[stratum])
        held[generator.permutation(rows)[: each if len(rows) > each else len(rows) // 2]] = True
    return held.tolist()
