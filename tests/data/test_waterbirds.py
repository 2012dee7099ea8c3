from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from despur.catalog import load_dataset
from despur.data.images import read_image, read_mask
from despur.data.waterbirds import load_waterbirds, read_cub_boxes
from despur.errors import DataError

AUTHORS = "waterbird_complete95_forest2water2"


@pytest.fixture
def home(waterbirds_home: Path, tmp_path: Path) -> Path:
    """A copy of the small Waterbirds that a test may spoil."""
    return Path(shutil.copytree(waterbirds_home, tmp_path / "home"))


def edit(home: Path, old: str, new: str) -> None:
    file = home / AUTHORS / "metadata.csv"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_groups_come_out_in_the_sizes_that_went_in(waterbirds_home: Path) -> None:
    dataset = load_waterbirds(waterbirds_home / AUTHORS)
    assert dataset.classes == ("landbird", "waterbird")
    sizes = {name: np.bincount(dataset.split(name).groups("water")).tolist() for name in ("train", "val", "test")}
    assert sizes == {"train": [6, 3, 3, 6], "val": [3, 3, 3, 3], "test": [3, 3, 2, 2]}
    assert dataset.group_phrases(dataset.attribute())[3] == "waterbird on water"


def test_the_folder_around_the_download_will_do(waterbirds_home: Path) -> None:
    assert load_waterbirds(waterbirds_home).spec == f"waterbirds:{waterbirds_home / AUTHORS}"


def test_wilds_layout_is_read_the_same(home: Path) -> None:
    authors = load_waterbirds(home).table
    (home / AUTHORS).rename(home / "waterbirds_v1.0")
    assert load_waterbirds(home).table.equals(authors)


def test_the_row_the_pixels_the_box_and_the_mask_are_of_one_bird(waterbirds_home: Path) -> None:
    dataset = load_waterbirds(waterbirds_home / AUTHORS)
    for row, path in zip(dataset.table.to_pylist(), dataset.image_paths(), strict=True):
        _, green, blue = read_image(path).getpixel((0, 0))
        assert (blue > green) == row["water"]
        x0, y0, x1, y1 = (int(corner) for corner in row["box"])
        inside = np.zeros((16, 24), dtype=bool)
        inside[y0:y1, x0:x1] = True
        assert np.array_equal(read_mask(dataset.root / row["mask"]), inside)


def test_masks_and_boxes_may_lie_elsewhere(home: Path, tmp_path: Path) -> None:
    known = load_waterbirds(home).table
    cub = tmp_path / "downloads" / "CUB"
    cub.mkdir(parents=True)
    (home / "segmentations").rename(cub / "segmentations")
    (home / "bounding_boxes.txt").rename(cub / "bounding_boxes.txt")
    without = load_waterbirds(home)
    assert without.table["mask"].null_count == without.table["box"].null_count == len(without)
    found = load_waterbirds(home, masks=cub, boxes=cub)
    assert found.table["box"].equals(known["box"])
    assert all((found.root / mask).is_file() for mask in found.table["mask"].to_pylist())


def test_masks_beside_a_linked_dataset_are_found_where_they_are(home: Path, tmp_path: Path) -> None:
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (home / AUTHORS).rename(tmp_path / "disk" / "deep" / AUTHORS)
    (home / AUTHORS).symlink_to(tmp_path / "disk" / "deep" / AUTHORS)
    dataset = load_waterbirds(home / AUTHORS)
    assert all((dataset.root / mask).is_file() for mask in dataset.table["mask"].to_pylist())


def test_a_bird_without_a_mask_has_none(home: Path) -> None:
    next((home / "segmentations").rglob("0001.png")).unlink()
    assert load_waterbirds(home).table["mask"].null_count == 1


def test_a_folder_without_any_of_the_masks_is_refused_when_it_was_named(home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it holds no mask of these images"):
        load_waterbirds(home, masks=tmp_path)


def test_boxes_are_matched_by_name_where_cub_numbers_images_otherwise(home: Path) -> None:
    known = load_waterbirds(home).table
    names = known["image"].to_pylist()
    (home / "images.txt").write_text("".join(f"{900 - number} {name}\n" for number, name in enumerate(names)))
    boxes = [row.split(maxsplit=1)[1] for row in (home / "bounding_boxes.txt").read_text().splitlines()]
    (home / "bounding_boxes.txt").write_text("".join(f"{900 - number} {box}\n" for number, box in enumerate(boxes)))
    assert load_waterbirds(home).table["box"].equals(known["box"])


def test_a_cub_box_is_a_corner_and_a_size(tmp_path: Path) -> None:
    (tmp_path / "bounding_boxes.txt").write_text("1 60.0 27.0 325.0 304.0\n\n")
    assert read_cub_boxes(tmp_path / "bounding_boxes.txt") == {"1": (60.0, 27.0, 385.0, 331.0)}


@pytest.mark.parametrize("line", ["1 60.0 27.0 325.0", "1 a b c d"])
def test_a_box_list_that_is_not_cubs_is_refused(home: Path, line: str) -> None:
    (home / "bounding_boxes.txt").write_text(line)
    with pytest.raises(DataError, match=r"bounding_boxes\.txt"):
        load_waterbirds(home)


def test_a_missing_column_is_named_with_those_expected(home: Path) -> None:
    edit(home, ",place,", ",where,")
    with pytest.raises(DataError, match=r"metadata\.csv: it has no column 'place'.*complete95 download\? expected"):
        load_waterbirds(home)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0003.jpg,0,0,0", "0003.jpg,2,0,0", "y is '2' in row 3"),
        ("0003.jpg,0,0,0", "0003.jpg,0,0,-1", "place is '-1' in row 3"),
        ("0003.jpg,0,0,0", "0003.jpg,0,3,0", "split is '3' in row 3"),
        ("001.Sparrow/0003.jpg", "../../../etc/passwd", r"'../../../etc/passwd' in row 3 leads out"),
        ("001.Sparrow/0003.jpg", "/etc/passwd", "'/etc/passwd' in row 3 leads out"),
    ],
)
def test_a_value_that_means_nothing_is_named_with_its_row(home: Path, old: str, new: str, message: str) -> None:
    edit(home, old, new)
    with pytest.raises(DataError, match=message):
        load_waterbirds(home)


def test_a_missing_folder_or_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"waterbirds:{tmp_path}: there is no metadata.csv in it; name the folder"):
        load_waterbirds(tmp_path)
    with pytest.raises(DataError, match="there is no such folder"):
        load_waterbirds(tmp_path / "absent")


def test_a_list_whose_images_were_not_unpacked_is_refused(home: Path) -> None:
    for folder in ("001.Sparrow", "002.Gull"):
        shutil.rmtree(home / AUTHORS / folder)
    with pytest.raises(DataError, match="none of the images that it lists exists"):
        load_waterbirds(home)


def test_one_missing_image_is_left_for_the_quarantine(home: Path) -> None:
    (home / AUTHORS / "001.Sparrow" / "0001.jpg").unlink()
    assert len(load_waterbirds(home)) == 40


def test_the_spec_says_where_masks_and_boxes_lie(home: Path, tmp_path: Path) -> None:
    known = load_waterbirds(home).table
    cub = tmp_path / "CUB_200_2011_elsewhere"
    cub.mkdir()
    (home / "segmentations").rename(cub / "segmentations")
    (home / "bounding_boxes.txt").rename(cub / "bounding_boxes.txt")
    found = load_dataset(f"waterbirds:{home},masks={cub},boxes={cub}/bounding_boxes.txt")
    assert found.table["box"].equals(known["box"])
    assert found.table["mask"].null_count == 0


def test_masks_inside_the_folder_of_cub_beside_it_are_found(home: Path) -> None:
    known = load_waterbirds(home).table
    (home / "CUB_200_2011").mkdir()
    (home / "segmentations").rename(home / "CUB_200_2011" / "segmentations")
    (home / "bounding_boxes.txt").rename(home / "CUB_200_2011" / "bounding_boxes.txt")
    found = load_waterbirds(home)
    assert found.table["box"].equals(known["box"])
    assert found.table["mask"].null_count == 0
