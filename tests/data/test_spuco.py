from __future__ import annotations

from pathlib import Path

import pytest

from despur.catalog import load_dataset
from despur.data.spuco import load_spuco
from despur.errors import DataError

BIRDS = ("landbirds/land", "landbirds/water", "waterbirds/land", "waterbirds/water")
DOGS = ("small_dogs/indoor", "small_dogs/outdoor", "big_dogs/indoor", "big_dogs/outdoor")


def plant(root: Path, groups: tuple[str, ...]) -> Path:
    """One empty image in each group of each split; nothing is read while a dataset is loaded."""
    for split in ("train", "val", "test"):
        for group in groups:
            (root / split / group).mkdir(parents=True)
            (root / split / group / "0.jpg").touch()
    return root


def test_birds_are_classes_and_places_the_attribute(tmp_path: Path) -> None:
    plant(tmp_path / "spuco_birds", BIRDS)
    dataset = load_spuco(tmp_path)
    assert dataset.classes == ("landbird", "waterbird")
    assert dataset.group_phrases(dataset.attribute()) == [
        "landbird on land",
        "landbird on water",
        "waterbird on land",
        "waterbird on water",
    ]
    train = dataset.split("train")
    assert train.groups("water").tolist() == [0, 1, 2, 3]
    assert train.ids == [f"spuco_birds/train/{group}/0.jpg" for group in BIRDS]
    assert all(path.is_file() for path in dataset.image_paths())


def test_the_folder_of_one_download_may_be_named_itself(tmp_path: Path) -> None:
    dataset = load_spuco(plant(tmp_path / "spuco_dogs", DOGS))
    assert dataset.classes == ("big dog", "small dog")
    assert dataset.group_phrases(dataset.attribute())[:2] == ["big dog indoors", "big dog outdoors"]


def test_birds_and_dogs_beside_each_other_are_the_animals(tmp_path: Path) -> None:
    plant(tmp_path / "spuco_birds", BIRDS)
    plant(tmp_path / "spuco_dogs", DOGS)
    dataset = load_spuco(tmp_path)
    assert dataset.classes == ("big dog", "landbird", "small dog", "waterbird")
    assert [attribute.name for attribute in dataset.attributes] == ["indoor", "land", "outdoor", "water"]
    on_land = [name for name, land in zip(dataset.ids, dataset.present("land"), strict=True) if land]
    assert on_land
    assert all("/land/" in name for name in on_land)


def test_numbered_folders_are_named_by_options(tmp_path: Path) -> None:
    plant(tmp_path, ("0/0", "0/1", "1/0", "1/1"))
    dataset = load_dataset(f"spuco:{tmp_path},classes=cat,dog,values=sofa,lawn")
    assert dataset.classes == ("cat", "dog")
    assert dataset.group_phrases(dataset.attribute())[0::3] == ["cat with sofa", "dog with lawn"]


@pytest.mark.parametrize(
    ("option", "told"),
    [("classes=cat", "1 classes are named for 2 folders"), ("values=a,b,c", "3 values are named for 2 folders")],
)
def test_another_number_of_names_than_of_folders_is_refused(tmp_path: Path, option: str, told: str) -> None:
    plant(tmp_path, ("0/0", "0/1", "1/0", "1/1"))
    with pytest.raises(DataError, match=told):
        load_dataset(f"spuco:{tmp_path},{option}")


def test_a_folder_without_splits_or_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="holds no split"):
        load_spuco(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        load_spuco(tmp_path / "nowhere")


def test_a_value_of_which_no_image_is_unpacked_is_told(tmp_path: Path) -> None:
    plant(tmp_path, BIRDS)
    (tmp_path / "train" / "landbirds" / "desert").mkdir()
    with pytest.raises(DataError, match="no folder 'desert' of a class holds an image"):
        load_spuco(tmp_path)
