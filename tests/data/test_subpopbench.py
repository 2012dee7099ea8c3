from __future__ import annotations

from pathlib import Path

import pytest

from despur.catalog import load_dataset
from despur.data.subpopbench import load_subpopbench
from despur.errors import DataError

ROWS = ["a.jpg,0,0,0", "b.jpg,0,1,1", "c.jpg,1,0,1", "d.jpg,2,1,0"]
"""filename, split, y, a"""


def write(file: Path, rows: list[str], *, images: str = ".") -> Path:
    """A metadata file as SubpopBench's script writes it, and empty images."""
    folder = file.parent / images
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        (folder / row.split(",")[0]).touch()
    lines = [f"{number},{row}" for number, row in enumerate(rows)]
    file.write_text("\n".join(["id,filename,split,y,a", *lines]) + "\n")
    return file


def test_waterbirds_lie_in_their_download_beside_the_metadata(tmp_path: Path) -> None:
    file = write(tmp_path / "metadata_waterbirds.csv", ROWS, images="waterbird_complete95_forest2water2")
    dataset = load_dataset(f"subpopbench:{file}")
    assert dataset.classes == ("landbird", "waterbird")
    assert dataset.table["split"].to_pylist() == ["train", "train", "val", "test"]
    assert dataset.groups("water").tolist() == [0, 3, 1, 2]
    assert all(path.is_file() for path in dataset.image_paths())


def test_celeba_is_blond_hair_by_sex(tmp_path: Path) -> None:
    dataset = load_subpopbench(write(tmp_path / "metadata_celeba.csv", ROWS, images="img_align_celeba"))
    assert dataset.group_phrases(dataset.attribute())[3] == "person with blond hair who is a man"


def test_metashift_names_its_images_by_absolute_paths(tmp_path: Path) -> None:
    rows = [f"{tmp_path}/{row}" for row in ROWS]
    dataset = load_subpopbench(write(tmp_path / "metadata_metashift.csv", rows))
    assert dataset.ids == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert dataset.group_phrases(dataset.attribute())[3] == "cat indoors"


def test_a_path_that_leads_out_needs_leave(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = write(tmp_path / "data" / "metadata_metashift.csv", [f"{elsewhere}/{row}" for row in ROWS])
    with pytest.raises(DataError, match="leads out"):
        load_dataset(f"subpopbench:{file}")
    dataset = load_dataset(f"subpopbench:{file}", allow_outside=True)
    assert dataset.image_paths()[0] == elsewhere / "a.jpg"


def test_six_places_of_an_unknown_file_are_named_by_options(tmp_path: Path) -> None:
    rows = [f"{number}.jpg,{number % 3},{number % 2},{number}" for number in range(6)]
    file = write(tmp_path / "metadata.csv", rows)
    with pytest.raises(DataError, match="y goes up to 1, and no of its values are named"):
        load_dataset(f"subpopbench:{file}")
    dataset = load_dataset(f"subpopbench:{file},classes=bear,bus,values=autumn,dim,grass,outdoor,rock,water")
    assert dataset.classes == ("bear", "bus")
    assert [attribute.name for attribute in dataset.attributes] == [
        "autumn",
        "dim",
        "grass",
        "outdoor",
        "rock",
        "water",
    ]
    assert dataset.present("rock").tolist() == [False, False, False, False, True, False]


def test_the_backgrounds_challenge_has_words_for_splits_and_no_attribute(tmp_path: Path) -> None:
    rows = ["a.jpg,train,0,0", "b.jpg,train,1,0", "c.jpg,val,1,0", "d.jpg,test,0,0", "e.jpg,mixed_rand,0,0"]
    dataset = load_subpopbench(write(tmp_path / "metadata.csv", rows), classes=["dog", "bird"])
    assert dataset.ids == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert dataset.attributes == ()


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("e.jpg,7,0,0", "split is '7' in row 5"),
        ("e.jpg,0,-1,0", "y is '-1'"),
        ("e.jpg,0,0,water", "a is 'water'"),
        ("e.jpg,0,2,0", "y goes up to 2, and 2 of its values are named"),
    ],
)
def test_what_is_not_as_written_is_told(tmp_path: Path, row: str, told: str) -> None:
    file = write(tmp_path / "metadata_metashift.csv", [*ROWS, row])
    with pytest.raises(DataError, match=told):
        load_subpopbench(file)


def test_a_folder_and_a_table_without_rows_are_told(tmp_path: Path) -> None:
    file = write(tmp_path / "metadata_metashift.csv", [])
    with pytest.raises(DataError, match=r"it is a folder; name the table in it \(metadata_metashift.csv\)"):
        load_subpopbench(tmp_path)
    with pytest.raises(DataError, match="it lists no images"):
        load_subpopbench(file)
