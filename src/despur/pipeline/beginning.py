"""A first study file for a folder: what kind of dataset it holds, and the settings with what they mean."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from despur.catalog import load_dataset
from despur.data.celeba import ATTRIBUTES as CELEBA_LIST
from despur.data.celeba import LISTS as CELEBA_FOLDERS
from despur.data.delimited import read_delimited
from despur.data.examples import SPLITS, Dataset
from despur.data.fiftyone import SAMPLES
from despur.data.imagenet import HOMES as IMAGENET_HOMES
from despur.data.load import KINDS
from despur.data.paths import absolute
from despur.data.spuco import DOWNLOADS as SPUCO_FOLDERS
from despur.data.subpopbench import KNOWN as SUBPOPBENCH_FILES
from despur.data.table import NEEDED
from despur.data.waterbirds import FOLDERS as WATERBIRDS_FOLDERS
from despur.errors import DataError, SettingsError
from despur.pipeline.settings import PAPER_METHODS
from despur.workspace import write_whole

MODEL = "open_clip:RN50/openai"


@dataclass(frozen=True)
class Beginning:
    """A study file that was written, the spec of its dataset, and what was seen in it, a line each."""

    file: Path
    spec: str
    seen: list[str]


def guess_spec(folder: Path) -> str:
    """What a folder holds, by the files that are in it: ``waterbirds:``, ``celeba:``, ``imagenet:``, ...

    Raises:
        DataError: there is no such folder, or it holds several tables.
    """
    folder = absolute(folder)
    if not folder.is_dir():
        raise DataError("there is no such folder", where=folder, now="check the path")
    if any((folder / name / "metadata.csv").is_file() for name in ("", *WATERBIRDS_FOLDERS)):
        return f"waterbirds:{folder}"
    if any(
        (folder / way / f"{CELEBA_LIST}{suffix}").is_file() for way in CELEBA_FOLDERS for suffix in (".txt", ".csv")
    ):
        return f"celeba:{folder}"
    if any(any((folder / home / "train").glob("n" + "[0-9]" * 8)) for home in IMAGENET_HOMES):
        return f"imagenet:{folder}"
    if folder.name in SPUCO_FOLDERS or any((folder / name).is_dir() for name in SPUCO_FOLDERS):
        return f"spuco:{folder}"
    if (folder / SAMPLES).is_file():
        return f"fiftyone:{folder}"
    listed = next((folder / name for name in SUBPOPBENCH_FILES if (folder / name).is_file()), None)
    if listed is not None:
        return f"subpopbench:{listed}"
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return f"hf:{folder}"
    tables = [file for file in sorted(folder.iterdir()) if _lists_images(file)]
    if len(tables) > 1:
        raise DataError(
            f"it holds {len(tables)} tables of images ({', '.join(file.name for file in tables)})",
            where=folder,
            now="write the study by hand, with dataset: table:FILE",
        )
    if tables:
        return f"table:{tables[0]}"
    if next(folder.rglob("*.parquet"), None) is not None:
        return f"hf:{folder}"
    return f"folder:{folder}"


def _lists_images(file: Path) -> bool:
    """Whether a file is a table with the columns of an examples table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.suffix.lower() in (".csv", ".tsv"):
            names = read_delimited(file).column_names
        elif file.suffix.lower() in (".parquet", ".pq"):
            names = pq.read_schema(file).names
        else:
            return False
    except (DataError, pa.ArrowException, OSError):
        return False  # some other file of the user's
    return set(NEEDED) <= {name.strip() for name in names}


def begin_study(folder: Path, file: Path, *, model: str = MODEL, seed: int = 0, overwrite: bool = False) -> Beginning:
    """Write a commented study file for the dataset in a folder.

    Args:
        folder: the folder, or a spec that names its kind, as other commands take it (``folder:PHOTOS``).
        file: the study file; its workspace will lie beside it.
        model: the spec to fill in.
        seed: of splits that are drawn.
        overwrite: replace a file that is there.

    Raises:
        DataError: the folder holds nothing that makes a study.
        SettingsError: the file is there already.
        WorkspaceError: it cannot be written.
    """
    file = absolute(file)
    if file.exists() and not overwrite:
        raise SettingsError(
            "it is there already", where=file, now="name another with --out, or replace it with --force"
        )
    said, _, place = str(folder).partition(":")
    spec = str(folder) if said in KINDS and place else guess_spec(folder)
    dataset = load_dataset(spec, seed=seed, folder=file.parent / "work")
    kind, _, place = spec.partition(":")
    # Beside the data, so that both can be moved together; elsewhere, by the whole path.
    inside = absolute(Path(place)).is_relative_to(file.parent)
    written = f"{kind}:{os.path.relpath(place, file.parent)}" if inside else spec
    seen = list(_seen(dataset))
    with write_whole(file) as temporary:
        temporary.write_text("\n".join(_lines(dataset, written, model, seed, seen)) + "\n", encoding="utf-8")
    return Beginning(file, spec, seen)


def _seen(dataset: Dataset) -> Iterator[str]:
    splits = dataset.table["split"].to_pylist()
    yield f"{len(dataset)} images: " + ", ".join(f"{splits.count(split)} {split}" for split in SPLITS)
    yield f"{len(dataset.classes)} classes: {_some(dataset.classes)}"
    if dataset.attributes:
        yield f"attributes: {_some([attribute.name for attribute in dataset.attributes])}"
    for column, what in (("box", "boxes"), ("mask", "masks")):
        count = len(dataset) - dataset.table[column].null_count
        if count:
            yield f"{what} for {count} images"


def _some(words: list[str] | tuple[str, ...]) -> str:
    """The words, cut off where they are many."""
    return ", ".join(words[:10]) + (f" and {len(words) - 10} more" if len(words) > 10 else "")


def _lines(dataset: Dataset, spec: str, model: str, seed: int, seen: list[str]) -> Iterator[str]:
    yield "# A study for `despur run`; a path is relative to the folder of this file."
    yield ""
    yield "# What was found:"
    yield from (f"#   {_plain(line)}" for line in seen)
    yield f"dataset: {json.dumps(spec, ensure_ascii=False)}"
    yield ""
    yield "# One model or several: open_clip:ARCH/TAG, open_clip:ARCH/FILE (weights on disk), hf:NAME."
    yield f"models: [{json.dumps(model, ensure_ascii=False)}]"
    yield ""
    yield "# Features, runs and report.html go here; what is up to date is not computed again."
    yield "workspace: work"
    yield ""
    yield "# Draws splits where the dataset has none."
    yield f"seed: {seed}"
    yield ""
    yield "# Share of the images that may be unreadable (they are listed in quarantine.parquet)."
    yield "max_unreadable: 0.01"
    yield ""
    yield "# Your own templates, and what classes and attributes are called in them, from a file beside this one."
    yield "# prompts: prompts.yaml"
    yield ""
    yield "# What works through the images; actors of Ray on this machine, or with an address on a cluster."
    yield "# engine: {name: ray, actors: 2}"
    yield ""
    yield "# Keep every shard of features and detections in an object store too; another machine goes on from there."
    yield "# mirror: s3://BUCKET/FOLDER"
    yield ""
    yield "embed:"
    yield "  batch_size: 64  # or auto: as many as a GPU's memory takes"
    yield "  dtype: float16  # or float32: twice the disk"
    yield ""
    yield "# What else the images show, and which of it the model's accuracy hangs on. `despur review` shows it to a"
    yield "# person; with `groups: verdicts` below, the next run retrains by what that person says."
    # Without an attribute, nothing else splits the classes.
    off = "# " if dataset.attributes else ""
    yield f"{off}detect: {{detector: owlvit, vocabulary: builtin}}"
    yield f"{off}rank: {{min_count: 10}}"
    yield ""
    yield "mitigate:"
    yield from _about_attribute(dataset)
    yield f"  methods: [{', '.join(PAPER_METHODS)}]"
    yield "  seeds: 1  # runs a method; three or more tell luck from merit"
    yield "  # train: {epochs: 300}  # for every method, over its own settings"
    yield "  # track: [tensorboard]  # or mlflow, wandb (offline): histories go below work/tracking"
    yield ""
    yield "explain:"
    yield "  images: 1000  # test images to measure; leave the line out to measure all"
    yield ""
    yield "# What a repair costs: accuracy on classes that were not repaired, and of blends of old and new weights."
    yield "# retain: {images: 'folder:OTHERS', names: imagenet}"
    yield "# blend: true"


def _about_attribute(dataset: Dataset) -> Iterator[str]:
    if not dataset.attributes:
        yield "  # The dataset names no attribute. `despur run` therefore stops once the pairs are ranked: judge them"
        yield "  # with `despur review -w work`, and the same command goes on."
        yield "  groups: verdicts  # or classes: each is one group; leave out the methods with ls and vs then"
        return
    first = dataset.attributes[0]
    yield "  # The attribute that the model should stop leaning on" + (
        "." if len(dataset.attributes) == 1 else f"; one of {_plain(_some([a.name for a in dataset.attributes]))}."
    )
    counts = np.bincount(dataset.split("train").groups(first.name), minlength=2 * len(dataset.classes)).tolist()
    for label, name in list(enumerate(dataset.classes))[:10]:
        without, having = counts[2 * label : 2 * label + 2]
        yield f"  #   {_plain(name)}: {having} training images with {_plain(first.name)}, {without} without"
    yield f"  attribute: {json.dumps(first.name, ensure_ascii=False)}"


def _plain(text: str) -> str:
    """Text that cannot end a comment: line breaks and other controls shown as what they are."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
