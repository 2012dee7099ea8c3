"""CelebA: aligned faces with forty attributes, one of which is the class and another the shortcut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from despur.data.delimited import check_columns, read_delimited
from despur.data.examples import SPLITS, Attribute, Dataset, make_dataset
from despur.data.paths import absolute, check_inside, check_some_exist
from despur.data.splits import check_splits
from despur.errors import DataError, nearest

ATTRIBUTES, PARTITION = "list_attr_celeba", "list_eval_partition"
IMAGES = ("img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba")
LISTS = ("", "Anno", "Eval")
"""Folders that the lists lie in; the authors' archive has two of its own."""

PRESENT = {"1": True, "-1": False, "0": False}

ADJECTIVES = frozenset({"attractive", "bald", "blurry", "chubby", "smiling", "young"})


def load_celeba(
    root: Path, *, target: str = "Blond_Hair", attributes: Sequence[str] = ("Male",), classes: Sequence[str] = ()
) -> Dataset:
    """CelebA as one examples table, in the authors' text lists or Kaggle's CSV files.

    Args:
        root: holds ``list_attr_celeba``, ``list_eval_partition`` (``.txt`` or ``.csv``) and ``img_align_celeba/``.
        target: the attribute whose absence and presence are classes 0 and 1.
        attributes: those that may be shortcuts.
        classes: names of the two classes, for prompts; empty: "person without blond hair", "person with blond hair".

    Raises:
        DataError: a list or the images are missing, a value is not as described, or there is no such attribute.
    """
    root = absolute(root)
    spec = f"celeba:{root}"
    if not root.is_dir():
        raise DataError("there is no such folder", where=spec, now="check the path")
    if len(classes) not in (0, 2):
        raise DataError(
            f"{len(classes)} classes are named ({', '.join(classes)})",
            where=spec,
            now=f"name two: without and with {target}",
        )
    file, partition = _list(root, ATTRIBUTES, spec), _list(root, PARTITION, spec)
    names, found = _attributes(file, (target, *attributes))
    split_of = _partition(partition)
    unsplit = next((name for name in names if name not in split_of), None)
    if unsplit is not None:
        raise DataError(f"it names no split for {unsplit!r}", where=partition, now="download it again")
    folder = next((way for way in IMAGES if (root / way).is_dir()), None)
    if folder is None:
        raise DataError("there is no img_align_celeba/ in it", where=spec, now="unpack img_align_celeba.zip there")
    images = [f"{folder}/{name}" for name in names]
    splits = [split_of[name] for name in names]
    labels = [int(value) for value in found[target]]
    named = list(classes) or [f"person without {_words(target)}", f"person with {_words(target)}"]
    check_inside(file, images)
    check_splits(spec, named, labels, splits)
    check_some_exist(spec, root, images)
    columns = {"id": names, "image": images, "label": labels, "split": splits}
    return make_dataset(
        spec,
        root,
        named,
        [_phrased(name) for name in attributes],
        {**columns, **{_words(name): found[name] for name in attributes}},
    )


def _words(name: str) -> str:
    return name.replace("_", " ").lower()


def _phrased(name: str) -> Attribute:
    """An attribute as it follows "person with blond hair" in a prompt."""
    words = _words(name)
    if words == "male":
        return Attribute(words, "who is a man", "who is a woman")
    if words in ADJECTIVES:
        return Attribute(words, f"who is {words}", f"who is not {words}")
    if words.startswith("wearing "):
        return Attribute(words, words, f"not {words}")
    return Attribute(words, f"with {words}", f"without {words}")


def _list(root: Path, name: str, spec: str) -> Path:
    for folder in LISTS:
        for suffix in (".txt", ".csv"):
            if (root / folder / f"{name}{suffix}").is_file():
                return root / folder / f"{name}{suffix}"
    raise DataError(f"there is no {name}.txt in it", where=spec, now=f"name the folder of {ATTRIBUTES} and {PARTITION}")


def _lines(file: Path) -> list[list[str]]:
    try:
        return [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"it cannot be read ({error})", where=file, now="download it again") from error


def _attributes(file: Path, wanted: Sequence[str]) -> tuple[list[str], dict[str, list[bool]]]:
    """Names of all images, and whether each shows the wanted attributes."""
    if file.suffix == ".csv":
        table = read_delimited(file)
        check_columns(file, table.column_names, ("image_id",), expected="image_id and forty attributes")
        header = [name for name in table.column_names if name != "image_id"]
        _check_known(file, wanted, header)
        images = table["image_id"].to_pylist()
        values = {name: table[name].to_pylist() for name in wanted}
    else:
        # The first line counts the images, the second names the attributes.
        lines = _lines(file)
        header = lines[1] if len(lines) > 1 else []
        _check_known(file, wanted, header)
        for row, words in enumerate(lines[2:], start=3):
            if len(words) != len(header) + 1:
                raise DataError(
                    f"line {row} has {len(words)} words instead of {len(header) + 1}",
                    where=file,
                    now="download it again",
                )
        images = [words[0] for words in lines[2:]]
        values = {name: [words[1 + header.index(name)] for words in lines[2:]] for name in wanted}
    for name, column in values.items():
        for row, value in enumerate(column, start=1):
            if value not in PRESENT:
                raise DataError(f"{name} is {value!r} in row {row}", where=file, now="it should be 1 or -1")
    return images, {name: [PRESENT[value] for value in column] for name, column in values.items()}


def _check_known(file: Path, wanted: Sequence[str], known: list[str]) -> None:
    for name in wanted:
        if name not in known:
            raise DataError(f"it has no attribute {name!r}", where=file, now=nearest(name, known))
    if wanted[0] in wanted[1:]:
        raise DataError(f"the class {wanted[0]!r} cannot be its own shortcut", where=file, now="name another attribute")


def _partition(file: Path) -> dict[str, str]:
    """Split of each image: 0 train, 1 validation, 2 test."""
    if file.suffix == ".csv":
        table = read_delimited(file)
        check_columns(file, table.column_names, ("image_id", "partition"), expected="image_id, partition")
        told = zip(table["image_id"].to_pylist(), table["partition"].to_pylist(), strict=True)
    else:
        told = ((words[0], words[-1]) for words in _lines(file))
    numbers = {str(number): split for number, split in enumerate(SPLITS)}
    split_of: dict[str, str] = {}
    for row, (image, number) in enumerate(told, start=1):
        if number not in numbers:
            raise DataError(f"the split is {number!r} in row {row}", where=file, now="it should be 0, 1 or 2")
        split_of[image] = numbers[number]
    return split_of
