from __future__ import annotations

import os
from pathlib import Path

import pytest

from despur.data.examples import Dataset
from despur.data.folder import load_folder
from despur.errors import DataError


def plant(root: Path, *files: str) -> Path:
    """Empty files; nothing is read while a dataset is loaded."""
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def rows(dataset: Dataset) -> list[tuple[str, str, str]]:
    table = dataset.table.to_pylist()
    return [(row["image"], dataset.classes[row["label"]], row["split"]) for row in table]


def test_folders_for_the_splits_go_by_the_names_that_people_use(tmp_path: Path) -> None:
    plant(tmp_path, "training/cat/1.jpg", "training/dog/2.PNG", "valid/cat/3.jpg", "test/dog/4.jpeg")
    assert rows(load_folder(tmp_path)) == [
        ("test/dog/4.jpeg", "dog", "test"),
        ("training/cat/1.jpg", "cat", "train"),
        ("training/dog/2.PNG", "dog", "train"),
        ("valid/cat/3.jpg", "cat", "val"),
    ]


def test_class_folders_alone_get_splits_drawn_by_the_seed(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{name}/{number:02d}.jpg" for name in ("cat", "dog") for number in range(20)))
    dataset = load_folder(tmp_path, seed=1)
    assert rows(dataset) == rows(load_folder(tmp_path, seed=1))
    assert rows(dataset) != rows(load_folder(tmp_path, seed=2))
    for name in ("cat", "dog"):
        mine = [split for _, label, split in rows(dataset) if label == name]
        assert [mine.count(split) for split in ("train", "val", "test")] == [16, 2, 2]


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{name}/{number}.jpg" for name in ("real", "test") for number in range(3)))
    assert load_folder(tmp_path).classes == ("real", "test")


def test_hidden_files_other_files_and_hidden_folders_are_left_alone(tmp_path: Path) -> None:
    images = [f"{name}/{number}.jpg" for name in ("cat", "dog") for number in range(3)]
    plant(tmp_path, *images, "cat/.3.jpg", "cat/.trash/4.jpg", "dog/Thumbs.db", "notes.txt", ".git/objects/5.jpg")
    assert load_folder(tmp_path).ids == images


def test_images_deeper_in_a_class_belong_to_it(tmp_path: Path) -> None:
    plant(tmp_path, "cat/a/1.jpg", "cat/b/1.jpg", "cat/2 ü.jpg", "dog/1.jpg", "dog/2.jpg", "dog/3.jpg")
    assert [name for name, label, _ in rows(load_folder(tmp_path)) if label == "cat"] == [
        "cat/2 ü.jpg",
        "cat/a/1.jpg",
        "cat/b/1.jpg",
    ]


def test_a_heic_and_a_broken_link_are_listed_so_that_quarantine_names_them(tmp_path: Path) -> None:
    plant(tmp_path, "cat/1.heic", "cat/2.jpg", "dog/1.jpg", "dog/2.jpg", "dog/3.jpg")
    (tmp_path / "cat" / "3.jpg").symlink_to(tmp_path / "gone.jpg")
    assert load_folder(tmp_path).ids[:3] == ["cat/1.heic", "cat/2.jpg", "cat/3.jpg"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["cat/1.jpg", "cat/2.jpg"], "it holds 1 class folders"),
        (["1.jpg", "2.jpg"], "it holds 0 class folders"),
        (["cat/1.jpg", "dog/notes.txt"], "the folder 'dog' holds no images"),
        (["cat/1.jpg", "cat/2.jpg", "cat/3.jpg", "dog/1.jpg"], "the class 'dog' has 1 images to train on, too few"),
        (["train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg"], "the split 'test' has no images"),
        (
            ["train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg", "test/dgo/1.jpg"],
            "the class 'dgo' has no training images",
        ),
    ],
)
def test_a_folder_that_makes_no_study_is_refused(tmp_path: Path, files: list[str], message: str) -> None:
    plant(tmp_path, *files)
    with pytest.raises(DataError, match=message):
        load_folder(tmp_path)


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    plant(tmp_path, "cat/1.jpg", "dog/1.jpg")
    (tmp_path / "cat" / os.fsdecode(b"m\xf6we.jpg")).touch()
    with pytest.raises(DataError, match=r"m\\udcf6we\.jpg' is not UTF-8; rename"):
        load_folder(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"folder:{tmp_path}/absent: there is no such folder"):
        load_folder(tmp_path / "absent")
