from __future__ import annotations

from pathlib import Path

import pytest

from despur.catalog import load_dataset
from despur.data.celeba import load_celeba
from despur.errors import DataError

NAMES = ["Bald", "Blond_Hair", "Male", "Wearing_Hat"]

FACES = {
    "000001.jpg": (-1, 1, -1, 1, 0),
    "000002.jpg": (-1, 1, 1, -1, 0),
    "000003.jpg": (1, -1, 1, -1, 0),
    "000004.jpg": (-1, 1, -1, -1, 1),
    "000005.jpg": (-1, -1, 1, 1, 1),
    "000006.jpg": (-1, 1, -1, -1, 2),
    "000007.jpg": (-1, -1, -1, -1, 2),
}
"""Values of ``NAMES``, then the split."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Seven faces in the authors' lists, aligned with spaces as theirs are."""
    lines = [str(len(FACES)), " ".join(NAMES) + " "]
    lines += [f"{name} " + " ".join(f"{value:2d}" for value in values[:-1]) for name, values in FACES.items()]
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "list_eval_partition.txt").write_text(
        "".join(f"{name} {values[-1]}\n" for name, values in FACES.items())
    )
    (tmp_path / "img_align_celeba").mkdir()
    for name in FACES:
        (tmp_path / "img_align_celeba" / name).touch()
    return tmp_path


def test_hair_is_the_class_and_sex_the_shortcut(root: Path) -> None:
    dataset = load_celeba(root)
    assert dataset.classes == ("person without blond hair", "person with blond hair")
    rows = [(row["id"], row["label"], row["male"], row["split"]) for row in dataset.table.to_pylist()]
    assert rows == [
        (name, int(values[1] == 1), values[2] == 1, ("train", "val", "test")[values[4]])
        for name, values in FACES.items()
    ]
    assert dataset.group_phrases(dataset.attribute())[2:] == [
        "person with blond hair who is a woman",
        "person with blond hair who is a man",
    ]
    assert all(path.is_file() for path in dataset.image_paths())


def test_kaggles_files_are_read_the_same(root: Path) -> None:
    authors = load_celeba(root)
    rows = [",".join(["image_id", *NAMES])]
    rows += [",".join([name, *map(str, values[:-1])]) for name, values in FACES.items()]
    (root / "list_attr_celeba.csv").write_text("\n".join(rows))
    parts = ["image_id,partition", *(f"{name},{values[-1]}" for name, values in FACES.items())]
    (root / "list_eval_partition.csv").write_text("\n".join(parts))
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        (root / name).unlink()
    (root / "img_align_celeba").rename(root / "inner")
    (root / "img_align_celeba").mkdir()
    (root / "inner").rename(root / "img_align_celeba" / "img_align_celeba")
    kaggle = load_celeba(root)
    assert kaggle.table.drop_columns("image").equals(authors.table.drop_columns("image"))
    assert all(path.is_file() for path in kaggle.image_paths())


def test_another_class_and_other_shortcuts_are_options(root: Path) -> None:
    spec = f"celeba:{root},target=Male,attributes=Bald,Wearing_Hat,classes=woman,man"
    dataset = load_dataset(spec)
    assert dataset.classes == ("woman", "man")
    assert [(a.name, a.phrase, a.absent_phrase) for a in dataset.attributes] == [
        ("bald", "who is bald", "who is not bald"),
        ("wearing hat", "wearing hat", "not wearing hat"),
    ]
    assert dataset.present("bald").tolist() == [values[0] == 1 for values in FACES.values()]


def test_an_unknown_attribute_is_named_with_the_closest(root: Path) -> None:
    with pytest.raises(DataError, match="no attribute 'Blonde_Hair'; did you mean 'Blond_Hair'"):
        load_celeba(root, target="Blonde_Hair")
    with pytest.raises(DataError, match="'Male' cannot be its own shortcut"):
        load_celeba(root, target="Male")
    with pytest.raises(DataError, match="1 classes are named"):
        load_celeba(root, classes=["blond"])


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("list_attr_celeba.txt", "000003.jpg  1", "000003.jpg  1  1", "line 5 has 6 words instead of 5"),
        ("list_attr_celeba.txt", "000002.jpg -1  1", "000002.jpg -1  2", "Blond_Hair is '2' in row 2"),
        ("list_eval_partition.txt", "000004.jpg 1", "000004.jpg 3", "the split is '3' in row 4"),
        ("list_eval_partition.txt", "000004.jpg 1\n", "", "it names no split for '000004.jpg'"),
    ],
)
def test_a_list_that_is_not_celebas_is_refused(root: Path, file: str, old: str, new: str, message: str) -> None:
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new))
    with pytest.raises(DataError, match=message):
        load_celeba(root)


def test_what_is_missing_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        load_celeba(tmp_path / "absent")
    (root / "img_align_celeba").rename(root / "faces")
    with pytest.raises(DataError, match="there is no img_align_celeba/ in it; unpack"):
        load_celeba(root)
    (root / "list_eval_partition.txt").unlink()
    with pytest.raises(DataError, match=r"there is no list_eval_partition\.txt in it"):
        load_celeba(root)
