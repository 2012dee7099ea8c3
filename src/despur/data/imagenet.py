"""ImageNet-1K as its downloads unpack: a folder a class, boxes as XML, any subset of the thousand classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from despur.data.annotations import largest_box, read_annotation
from despur.data.delimited import check_columns, read_delimited
from despur.data.examples import Box, Dataset, make_dataset
from despur.data.folder import image_files
from despur.data.paths import absolute
from despur.data.presence import read_presence
from despur.data.splits import check_splits, hold_out
from despur.data.synsets import choose_synsets, thousand
from despur.data.table import named_attribute
from despur.errors import DataError

HELD_OUT = 25
"""Training images that METHOD section 5 holds out for validation, of each class and attribute value."""

HOMES = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "ILSVRC", "CLS-LOC")
"""Where ``train/`` and ``val/`` may lie below the named folder, by download."""

ANNOTATIONS = (
    "ILSVRC/Annotations/CLS-LOC",
    "Annotations/CLS-LOC",
    "../../Annotations/CLS-LOC",
    "Annotations",
    "boxes",
)

SOLUTION = "LOC_val_solution.csv"
"""Kaggle's list of the validation images' classes."""


@dataclass(frozen=True)
class Photograph:
    """One image of the download, before anything is drawn: ``part`` is "train" or "val", as its folder says."""

    file: Path
    wnid: str
    part: str


def load_imagenet(
    root: Path,
    *,
    classes: Sequence[str] = (),
    attributes: Path | None = None,
    attribute: Sequence[str] = (),
    boxes: Path | None = None,
    held_out: int = HELD_OUT,
    seed: int = 0,
) -> Dataset:
    """ImageNet-1K, or some of its classes: tested on ``val/``, trained on ``train/`` but for a draw for validation.

    The draw takes ``held_out`` images of every class and combination of attribute values (of every class, where no
    attributes are given), and half of a combination that has no more than that.

    Args:
        root: holds ``train/<wnid>/`` and ``val/<wnid>/``, or Kaggle's ``ILSVRC/``. A ``val/`` without class folders
            will do where XML annotations or ``LOC_val_solution.csv`` say what its images show.
        classes: by WordNet number, class index or name; empty: every class that has a training folder.
        attributes: a table or detections that say which images show what, by the images' paths below ``root``; see
            :func:`~despur.data.presence.read_presence`.
        attribute: which columns or phrases of that file.
        boxes: folder of XML annotations; None: looked for inside ``root``.
        held_out: 0 or more.
        seed: draws the validation images.

    Raises:
        DataError: a folder, class, file or value is not as described.
    """
    root = absolute(root)
    spec = f"imagenet:{root}"
    if attribute and attributes is None:
        raise DataError(
            "nothing says which images show the attribute",
            where=spec,
            now="name the table or detections with attributes=FILE",
        )
    home = _home(root, spec)
    annotations = _annotations(root, boxes, spec)
    wnids = choose_synsets(classes, where=spec) if classes else _present(home / "train", spec)
    photographs = [*_train(home / "train", wnids), *_val(root, home / "val", wnids, annotations)]
    names = [thousand()[wnid] for wnid in wnids]
    labels = [wnids.index(photograph.wnid) for photograph in photographs]
    images = [photograph.file.relative_to(root).as_posix() for photograph in photographs]
    found = {} if attributes is None else read_presence(attributes, images, attribute)
    strata = list(zip(labels, *found.values(), strict=True))
    splits = _splits(photographs, strata, held_out, seed)
    check_splits(spec, names, labels, splits)
    return make_dataset(
        spec,
        root,
        names,
        [named_attribute(name) for name in found],
        {
            "id": images,
            "image": images,
            "label": labels,
            "split": splits,
            "box": list(_boxes(photographs, annotations)),
            **found,
        },
    )


def _home(root: Path, spec: str) -> Path:
    """The folder that holds ``train/`` and ``val/``."""
    for way in HOMES:
        if (root / way / "train").is_dir():
            if not (root / way / "val").is_dir():
                raise DataError("it has train/ but no val/", where=root / way, now="unpack the validation images too")
            return root / way
    what = "there is no folder train/ in it" if root.is_dir() else "there is no such folder"
    raise DataError(what, where=spec, now="name the folder that holds train/ and val/, or Kaggle's ILSVRC/")


def _annotations(root: Path, boxes: Path | None, spec: str) -> Path | None:
    if boxes is not None:
        if not boxes.is_dir():
            raise DataError(f"there is no folder of boxes {boxes}", where=spec, now="check boxes=DIR")
        return boxes
    return next((absolute(root / way) for way in ANNOTATIONS if (root / way).is_dir()), None)


def _present(train: Path, spec: str) -> list[str]:
    wnids = [wnid for wnid in thousand() if (train / wnid).is_dir()]
    if not wnids:
        raise DataError(
            "train/ has no class folder such as n03825788", where=spec, now="for folders of other names use folder:DIR"
        )
    return wnids


def _train(folder: Path, wnids: Sequence[str]) -> Iterator[Photograph]:
    for wnid in wnids:
        if not (folder / wnid).is_dir():
            raise DataError(f"the class {wnid} ({thousand()[wnid]}) has no folder", where=folder, now="unpack it there")
        for file in image_files(folder / wnid, deep=False):
            yield Photograph(file, wnid, "train")


def _val(root: Path, folder: Path, wnids: Sequence[str], annotations: Path | None) -> Iterator[Photograph]:
    """Validation images of the classes, from class folders or, where there are none, from a list of what they show."""
    if any((folder / wnid).is_dir() for wnid in wnids):
        for wnid in wnids:
            if (folder / wnid).is_dir():
                for file in image_files(folder / wnid, deep=False):
                    yield Photograph(file, wnid, "val")
        return
    shown = _solution(root)
    for file in image_files(folder, deep=False):
        wnid = shown.get(file.stem) if shown else _annotated(file, annotations)
        if wnid is not None and wnid in wnids:
            yield Photograph(file, wnid, "val")


def _solution(root: Path) -> dict[str, str]:
    """Validation image to WordNet number, by Kaggle's list; empty where it is not there."""
    file = next((folder / SOLUTION for folder in (root, root.parent) if (folder / SOLUTION).is_file()), None)
    if file is None:
        return {}
    table = read_delimited(file)
    check_columns(file, table.column_names, ("ImageId", "PredictionString"), expected="ImageId, PredictionString")
    told = zip(table["ImageId"].to_pylist(), table["PredictionString"].to_pylist(), strict=True)
    return {image: answer.split()[0] for image, answer in told if answer.strip()}


def _annotated(file: Path, annotations: Path | None) -> str | None:
    if annotations is not None:
        for folder in (annotations / "val", annotations):
            if (folder / f"{file.stem}.xml").is_file():
                return next((name for name, _ in read_annotation(folder / f"{file.stem}.xml")), None)
    raise DataError(
        "nothing says which class the image shows",
        where=file,
        now=f"sort val/ into class folders, or put {SOLUTION} or the XML annotations there",
    )


def _splits(photographs: Sequence[Photograph], strata: Sequence[object], held_out: int, seed: int) -> list[str]:
    rows = [row for row, photograph in enumerate(photographs) if photograph.part == "train"]
    held = hold_out([strata[row] for row in rows], each=held_out, seed=seed)
    splits = ["test"] * len(photographs)
    for row, is_held in zip(rows, held, strict=True):
        splits[row] = "val" if is_held else "train"
    return splits


def _boxes(photographs: Sequence[Photograph], annotations: Path | None) -> Iterator[Box | None]:
    """Box of each photograph; None where it has no annotation."""
    held: dict[Path, set[str]] = {}
    for photograph in photographs:
        file = None if annotations is None else _annotation(annotations, photograph, held)
        yield None if file is None else largest_box(read_annotation(file), photograph.wnid)


def _annotation(annotations: Path, photograph: Photograph, held: dict[Path, set[str]]) -> Path | None:
    """The annotation of a photograph; which folder it lies in differs from one download to the next.

    ``held`` remembers what a folder holds: a thousand lookups in a listing cost less than one on a network disk.
    """
    name = f"{photograph.file.stem}.xml"
    for way in (f"{photograph.part}/{photograph.wnid}", photograph.wnid, photograph.part, ""):
        folder = annotations / way
        if folder not in held:
            held[folder] = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        if name in held[folder]:
            return folder / name
    return None
