"""FiftyOne's datasets as they lie on disk: ``samples.json`` beside ``data/``, as ``FiftyOneDataset`` exports them.

FiftyOne itself is not needed. A box of theirs is (left, top, width, height) in shares of the upright image.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from despur.data.examples import BASE_SCHEMA, Box, Dataset, is_text, make_dataset
from despur.data.images import UnreadableImage, upright_size
from despur.data.paths import absolute, check_inside, check_some_exist
from despur.data.splits import check_splits, draw_splits, split_name
from despur.data.table import named_attribute
from despur.errors import DataError, nearest

SAMPLES = "samples.json"
LABEL = "ground_truth"
"""What most datasets call the field of the class, and the field that is read unless another is named."""

HAS = "has_"
"""Before an attribute's name in the field that says whether an image has it."""

FARTHEST = 2.0
"""Shares of the image up to which a number of a box is taken for one: boxes may reach beyond the picture, pixels do not
count as shares."""

Sample = dict[str, Any]


def load_fiftyone(
    root: Path,
    *,
    label: str = LABEL,
    box: str | None = None,
    attributes: Sequence[str] = (),
    seed: int = 0,
    allow_outside: bool = False,
) -> Dataset:
    """A FiftyOne dataset as one examples table.

    Args:
        root: holds ``samples.json``.
        label: field of each sample's ``Classification``.
        box: field of ``Detections`` whose first one that is labelled as the class and has a place is the object; None:
            no boxes.
        attributes: tags, or labels of detections in any field, that are attributes besides the dataset's fields of yes
            and no (of which "has_" before a name is left off).
        seed: draws the splits where no sample has a tag that names one.
        allow_outside: accept paths that lead out of the folder; a dataset that was exported without its media has them.

    Raises:
        DataError: no samples, one without a class, a field that is not there, two fields that are one attribute, a box
            that is none, or a path that leads out of the folder.
    """
    root = absolute(root)
    spec = f"fiftyone:{root}"
    file = root / SAMPLES
    samples = _samples(file)
    names = [_class_of(file, number, sample, label) for number, sample in enumerate(samples, start=1)]
    classes = sorted(set(names))
    labels = [classes.index(name) for name in names]
    images = [_image(file, root, number, sample) for number, sample in enumerate(samples, start=1)]
    if not allow_outside:
        check_inside(file, images, now="allow it with --allow-outside if you trust this dataset")
    splits = _splits(file, samples) or draw_splits(spec, classes, labels, seed)
    check_splits(spec, classes, labels, splits)
    check_some_exist(file, root, images)
    found = {**_yes_or_no(file, samples), **{name: _shown(file, samples, name) for name in attributes}}
    boxes = [None] * len(samples) if box is None else _boxes(file, root, samples, names, images, box)
    return make_dataset(
        spec,
        root,
        classes,
        [named_attribute(name) for name in found],
        {"id": images, "image": images, "label": labels, "split": splits, "box": boxes, **found},
    )


def _samples(file: Path) -> list[Sample]:
    if not file.is_file():
        raise DataError("there is no such file", where=file, now="name the folder of a FiftyOneDataset export")
    try:
        told = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"it does not read as JSON ({error})", where=file, now="export the dataset again") from error
    samples = told.get("samples") if isinstance(told, dict) else None
    if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
        raise DataError("it lists no samples", where=file, now="export the dataset as fiftyone.types.FiftyOneDataset")
    if not samples:
        raise DataError("it lists no samples", where=file, now="export a dataset that holds some")
    return samples


def _class_of(file: Path, number: int, sample: Sample, field: str) -> str:
    value = sample.get(field)
    if not (isinstance(value, dict) and isinstance(value.get("label"), str)):
        if isinstance(value, dict) and "detections" in value:
            raise DataError(
                f"{field!r} of sample {number} holds detections and no class",
                where=file,
                now="name a field of Classification, label=FIELD",
            )
        known = sorted(name for name, one in sample.items() if isinstance(one, dict) and "label" in one)
        raise DataError(
            f"sample {number} has no class in {field!r}",
            where=file,
            now=f"name the field of the class, label=FIELD; {nearest(field, known)}" if known else "label every sample",
        )
    return value["label"]


def _image(file: Path, root: Path, number: int, sample: Sample) -> str:
    """Path of the image, relative to the root wherever it lies inside."""
    path = sample.get("filepath")
    if not isinstance(path, str) or not path:
        raise DataError(f"sample {number} has no filepath", where=file, now="export the dataset again")
    if not is_text(path):
        raise DataError(f"the filepath of sample {number} is no text ({path!r})", where=file, now="export it again")
    if "\\" in path and not (root / path).exists():  # exported on Windows
        path = PureWindowsPath(path).as_posix()
    return Path(path).relative_to(root).as_posix() if Path(path).is_relative_to(root) else path


def _tags(sample: Sample) -> list[str]:
    tags = sample.get("tags")
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []


def _splits(file: Path, samples: Sequence[Sample]) -> list[str]:
    """The split that each sample's tags name; empty: no sample's do.

    Raises:
        DataError: some samples' do and others' do not, or one's name two.
    """
    named = [{split for tag in _tags(sample) if (split := split_name(tag))} for sample in samples]
    if not any(named):
        return []
    for number, splits in enumerate(named, start=1):
        if len(splits) != 1:
            raise DataError(
                f"the tags of sample {number} name {len(splits)} splits",
                where=file,
                now="tag every sample with one of train, val and test, or none",
            )
    return [splits.pop() for splits in named]


def _yes_or_no(file: Path, samples: Sequence[Sample]) -> dict[str, list[bool]]:
    """Fields that say yes or no of every sample, by the attribute that they are.

    One called as a column of every dataset is none.

    Raises:
        DataError: two of them are one attribute.
    """
    names = [
        name
        for name in samples[0]
        if name.removeprefix(HAS) not in ("", *BASE_SCHEMA.names)
        and all(isinstance(sample.get(name), bool) for sample in samples)
    ]
    for name in names:
        if f"{HAS}{name}" in names:
            raise DataError(f"{name!r} and '{HAS}{name}' are one attribute", where=file, now="leave one of them out")
    return {name.removeprefix(HAS): [sample[name] for sample in samples] for name in names}


def _detections(sample: Sample, field: str | None = None) -> list[Sample]:
    """Detections of one field, or of all."""
    fields = sample.values() if field is None else [sample.get(field)]
    lists = [value.get("detections") for value in fields if isinstance(value, dict)]
    return [one for found in lists if isinstance(found, list) for one in found if isinstance(one, dict)]


def _shown(file: Path, samples: Sequence[Sample], name: str) -> list[bool]:
    """Whether each sample has that tag, or a detection with that label."""
    shown = [
        name in _tags(sample) or any(one.get("label") == name for one in _detections(sample)) for sample in samples
    ]
    if not any(shown):
        told = [isinstance(sample.get(name, sample.get(f"{HAS}{name}")), bool) for sample in samples]
        if any(told):
            raise DataError(
                f"sample {told.index(False) + 1} does not say whether it has {name!r}",
                where=file,
                now="give the field a value of yes or no in every sample",
            )
        labels = {str(one.get("label")) for sample in samples for one in _detections(sample)}
        known = sorted(labels | {tag for sample in samples for tag in _tags(sample)})
        raise DataError(f"no sample has a tag or detection {name!r}", where=file, now=nearest(name, known))
    return shown


def _boxes(
    file: Path, root: Path, samples: Sequence[Sample], names: Sequence[str], images: Sequence[str], field: str
) -> list[Box | None]:
    if not any(_detections(sample, field) for sample in samples):
        raise DataError(f"no sample has detections in {field!r}", where=file, now="name a field of Detections")
    boxes: list[Box | None] = []
    for number, (sample, name, image) in enumerate(zip(samples, names, images, strict=True), start=1):
        placed = [
            one["bounding_box"] for one in _detections(sample, field) if one.get("label") == name and _placed(one)
        ]
        boxes.append(_box(file, number, placed[0], root / image) if placed else None)
    return boxes


def _placed(detection: Sample) -> bool:
    """Whether it says where it is; FiftyOne lets a detection be without."""
    return detection.get("bounding_box") not in (None, [])


def _box(file: Path, number: int, shares: Any, image: Path) -> Box | None:
    """A box in pixels; None where the image cannot be read, which is told where it is embedded."""
    if not (isinstance(shares, list) and len(shares) == 4 and all(map(_is_share, shares)) and min(shares[2:]) > 0):
        raise DataError(
            f"the box of sample {number} is {shares!r}",
            where=file,
            now="it should be four numbers: left, top, width and height as shares of the image",
        )
    try:
        width, height = upright_size(image)
    except UnreadableImage:
        return None
    left, top, wide, high = shares
    return left * width, top * height, (left + wide) * width, (top + high) * height


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= FARTHEST
