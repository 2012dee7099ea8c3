from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from despur.data.examples import Attribute
from despur.data.images import read_image
from despur.data.table import load_table
from despur.errors import DataError

PHOTOS = Path(__file__).parents[3] / "shared" / "photos"

HEADER = "image,label,split"
ROWS = ("a.jpg,cat,train", "b.jpg,dog,train", "c.jpg,cat,val", "d.jpg,dog,test")
IMAGES = [f"{letter}.jpg" for letter in "abcd"]


def write(folder: Path, header: str = HEADER, rows: tuple[str, ...] = ROWS, *, more: tuple[str, ...] = ()) -> Path:
    """A CSV file of ``rows``, each with the cells of ``more`` behind it; and its images, which are empty files."""
    for name in IMAGES:
        (folder / name).touch()
    lines = [f"{row},{cells}" for row, cells in zip(rows, more, strict=True)] if more else rows
    (folder / "table.csv").write_text("\n".join((header, *lines)) + "\n", encoding="utf-8")
    return folder / "table.csv"


def write_columns(folder: Path, **columns: Any) -> Path:
    """A Parquet file with the columns of ``ROWS`` and others."""
    write(folder)
    base = {"image": IMAGES, "label": ["cat", "dog", "cat", "dog"], "split": ["train", "train", "val", "test"]}
    pq.write_table(pa.table({**base, **columns}), folder / "table.parquet")
    return folder / "table.parquet"


# --- what it reads


def test_three_columns_make_a_dataset(tmp_path: Path) -> None:
    dataset = load_table(write(tmp_path))
    assert (dataset.classes, dataset.attributes) == (("cat", "dog"), ())
    assert dataset.spec == f"table:{tmp_path}/table.csv"
    assert dataset.image_paths() == [tmp_path / name for name in IMAGES]
    assert dataset.table["split"].to_pylist() == ["train", "train", "val", "test"]
    assert dataset.labels.tolist() == [0, 1, 0, 1]


def test_a_parquet_table_reads_as_the_csv_does(tmp_path: Path) -> None:
    file = write_columns(tmp_path, water=[True, False, False, True])
    csv = load_table(write(tmp_path, f"{HEADER},water", more=("1", "0", "0", "1")))
    assert load_table(file).table.equals(csv.table)


def test_pandas_categories_are_read(tmp_path: Path) -> None:
    labels = pa.array(["cat", "dog", "cat", "dog"]).dictionary_encode()
    assert load_table(write_columns(tmp_path, label=labels)).classes == ("cat", "dog")


def test_number_labels_are_ordered_as_numbers(tmp_path: Path) -> None:
    dataset = load_table(write(tmp_path, rows=("a.jpg,10,train", "b.jpg,9,train", "c.jpg,9,val", "d.jpg,10,test")))
    assert (dataset.classes, dataset.labels.tolist()) == (("9", "10"), [1, 0, 0, 1])


@pytest.mark.parametrize("labels", [[7, 8, 7, 8], [7.0, 8.0, 7.0, 8.0]])
def test_number_labels_from_parquet_are_the_same_as_from_csv(tmp_path: Path, labels: list[float]) -> None:
    assert load_table(write_columns(tmp_path, label=labels)).classes == ("7", "8")


def test_a_label_that_looks_like_a_missing_value_is_a_name(tmp_path: Path) -> None:
    dataset = load_table(write(tmp_path, rows=("a.jpg,NA,train", "b.jpg,null,train", "c.jpg,NA,val", "d.jpg,NA,test")))
    assert dataset.classes == ("NA", "null")


def test_splits_go_by_the_names_that_people_use(tmp_path: Path) -> None:
    dataset = load_table(
        write(tmp_path, rows=("a.jpg,x,Training", "b.jpg,y,train", "c.jpg,x,validation", "d.jpg,y,test"))
    )
    assert dataset.table["split"].to_pylist() == ["train", "train", "val", "test"]


def test_other_columns_of_yes_and_no_are_attributes_and_the_rest_is_left_alone(tmp_path: Path) -> None:
    cells = ("1,FALSE,5,x,", "0,True,1,y,", "0,false,0,z,", "1,true,1,x,")
    dataset = load_table(write(tmp_path, f"{HEADER},water,at_night,stars,note,empty", more=cells))
    assert dataset.attributes == (Attribute("water", "with water"), Attribute("at_night", "with at night"))
    assert dataset.present("water").tolist() == [True, False, False, True]
    assert dataset.present("at_night").tolist() == [False, True, False, True]


@pytest.mark.parametrize("values", [[1, 0, 0, 1], [1.0, 0.0, 0.0, 1.0], [True, False, False, True]])
def test_an_attribute_may_be_any_kind_of_number(tmp_path: Path, values: list[float]) -> None:
    dataset = load_table(write_columns(tmp_path, water=values))
    assert dataset.present("water").tolist() == [True, False, False, True]


BOXES = [[1.0, 2.0, 3.0, 4.5], None, [0.0, 0.0, 9.0, 9.0], None]


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("x0,y0,x1,y1", ("1,2,3,4.5", ",,,", "0,0,9,9", ",,,")),
        ("box", ('"[1, 2, 3, 4.5]"', "", "0 0 9 9", "")),
    ],
)
def test_boxes_are_four_columns_or_one_and_may_be_blank(tmp_path: Path, header: str, cells: tuple[str, ...]) -> None:
    dataset = load_table(write(tmp_path, f"{HEADER},{header}", more=cells))
    assert dataset.table["box"].to_pylist() == BOXES


def test_boxes_from_parquet_are_lists(tmp_path: Path) -> None:
    assert load_table(write_columns(tmp_path, box=BOXES)).table["box"].to_pylist() == BOXES


def test_masks_and_ids_are_kept_and_ids_are_image_paths_otherwise(tmp_path: Path) -> None:
    dataset = load_table(write(tmp_path, f"{HEADER},id,mask", more=("11,m/a.png", "12,", "13,", "14,")))
    assert dataset.ids == ["11", "12", "13", "14"]
    assert dataset.table["mask"].to_pylist() == ["m/a.png", None, None, None]
    assert load_table(write(tmp_path)).ids == IMAGES


def test_a_spreadsheets_file_is_read(tmp_path: Path) -> None:
    file = write(tmp_path)
    file.write_bytes("﻿image, label ,split\r\n".encode() + "\r\n".join(ROWS).encode())
    assert load_table(file).classes == ("cat", "dog")


def test_a_quoted_name_may_hold_a_comma_and_other_alphabets(tmp_path: Path) -> None:
    rows = ('"Möwe, カモメ.jpg",cat,train', *ROWS[1:])
    assert load_table(write(tmp_path, rows=rows)).ids[0] == "Möwe, カモメ.jpg"


def test_tabs_separate_a_tsv(tmp_path: Path) -> None:
    text = write(tmp_path).read_text().replace(",", "\t")
    (tmp_path / "table.tsv").write_text(text)
    assert load_table(tmp_path / "table.tsv").labels.tolist() == [0, 1, 0, 1]


def test_a_relative_path_with_dots_ends_in_a_plain_spec(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "sub").mkdir()
    assert load_table(tmp_path / "sub" / ".." / "table.csv").root == tmp_path


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photographs are not here")
def test_real_photographs_in_a_table_are_read() -> None:
    dataset = load_table(PHOTOS / "birds.csv")
    assert (len(dataset), dataset.classes) == (55, ("landbird", "waterbird"))
    assert np.bincount(dataset.groups("water")).sum() == 55
    assert all(read_image(path).mode == "RGB" for path in dataset.image_paths()[:3])


# --- what it refuses


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (
            "image,class,split",
            ROWS,
            r"no column 'label' \(found: image, class, split\).*expected columns: image, label",
        ),
        ("image;label;split", ("a.jpg;cat;train",), "no column 'image'"),
        ("image,label,split,image", tuple(f"{row},x" for row in ROWS), "two columns 'image'"),
        (HEADER, (), "it has no rows"),
        (HEADER, (*ROWS, "e.jpg,cat"), "does not read as a table"),
        (HEADER, (*ROWS, "e.jpg,,train"), "label is blank in row 5"),
        (HEADER, (*ROWS, ",cat,train"), "image is blank in row 5"),
        (HEADER, (*ROWS, "e.jpg,cat,holdout"), "split is 'holdout' in row 5; use train, val or test"),
        (HEADER, (*ROWS, "e.jpg,cta,test"), "the class 'cta' has no training images"),
        (HEADER, ROWS[:3], "the split 'test' has no images"),
        (HEADER, (*ROWS, "a.jpg,cat,test"), "two rows have the id 'a.jpg'"),
        (HEADER, tuple(row.replace("dog", "cat") for row in ROWS), r"one class \(cat\)"),
        (HEADER, tuple(f"absent/{row}" for row in ROWS), r"none of the images .*absent/a\.jpg"),
        (f"{HEADER},x0,y0,x1", tuple(f"{row},1,2,3" for row in ROWS), "box columns but no 'y1'"),
        (f"{HEADER},x0,y0,x1,y1", tuple(f"{row},1,2,3," for row in ROWS), "the box in row 1"),
        (f"{HEADER},x0,y0,x1,y1", tuple(f"{row},9,9,5,5" for row in ROWS), "the box in row 1 .* has no area"),
        (f"{HEADER},x0,y0,x1,y1", tuple(f"{row},0,0,inf,5" for row in ROWS), "the box in row 1 .* has no area"),
        (f"{HEADER},box", tuple(f"{row},1 2 3" for row in ROWS), "the box in row 1"),
        (f"{HEADER},water", (*(f"{row},1" for row in ROWS[:3]), f"{ROWS[3]},"), "'water' is blank in row 4"),
    ],
)
def test_a_table_that_makes_no_study_is_refused(
    tmp_path: Path, header: str, rows: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_table(write(tmp_path, header, rows))
    assert "table.csv" in str(caught.value)


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "x/../../a.jpg", ".."])
@pytest.mark.parametrize("column", ["image", "mask"])
def test_a_path_that_leads_out_is_refused_unless_it_is_allowed(tmp_path: Path, column: str, path: str) -> None:
    header, row = (HEADER, f"{path},cat,train") if column == "image" else (f"{HEADER},mask", f"e.jpg,cat,train,{path}")
    rows = ROWS if column == "image" else tuple(f"{row}," for row in ROWS)
    file = write(tmp_path, header, (*rows, row))
    with pytest.raises(DataError, match=r"in row 5 leads out of the dataset's folder; .*--allow-outside"):
        load_table(file)
    assert load_table(file, allow_outside=True).table[column].to_pylist()[4] == path


def test_one_missing_image_is_left_for_the_quarantine(tmp_path: Path) -> None:
    file = write(tmp_path)
    (tmp_path / "a.jpg").unlink()
    assert len(load_table(file)) == 4


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_missing_table_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name}: there is no such file"):
        load_table(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("table.parquet", b"PAR1 not really", "does not read as Parquet"),
        ("table.csv", b"", "it is empty"),
        ("table.csv", b"image,label,split\na.jpg,m\xf6we,train\n", "UTF8|UTF-8"),
        ("table.xlsx", b"PK", "a table cannot be a .xlsx; use .csv or .parquet"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_table(tmp_path / name)


def test_a_folder_in_the_tables_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(DataError, match=r"table\.csv: it cannot be read"):
        load_table(tmp_path / "table.csv")
