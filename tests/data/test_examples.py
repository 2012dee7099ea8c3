from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from despur.data.examples import SPLITS, Attribute, Dataset, from_arrow, make_dataset, to_arrow
from despur.errors import DataError
from despur.workspace import read_parquet, write_parquet

WATER = Attribute("water", "on water", "on land")


def birds(**changed: object) -> Dataset:
    """Four images, one of each group, of which one lies in each split and the last in test."""
    columns: dict[str, list[object]] = {
        "id": ["a", "b", "c", "d"],
        "image": ["a.jpg", "b.jpg", "sub/c.jpg", "d.jpg"],
        "label": [0, 0, 1, 1],
        "split": ["train", "val", "test", "test"],
        "water": [False, True, False, True],
    }
    return make_dataset("table:birds.csv", Path("/birds"), ("landbird", "waterbird"), (WATER,), {**columns, **changed})


def test_a_group_counts_the_class_twice_and_the_attribute_once() -> None:
    assert birds().groups("water").tolist() == [0, 1, 2, 3]
    assert birds().group_phrases(WATER) == [
        "landbird on land",
        "landbird on water",
        "waterbird on land",
        "waterbird on water",
    ]


@pytest.mark.parametrize("name", ["", " ", "\n", "\ud83d"])
def test_a_class_or_attribute_needs_a_name_that_can_be_written(name: str) -> None:
    columns = {"id": ["a"], "image": ["a"], "label": [0], "split": ["train"], name: [True]}
    with pytest.raises(DataError, match="class"):
        make_dataset("x:", Path("x"), [name], [], columns)
    with pytest.raises(DataError, match="attribute"):
        make_dataset("x:", Path("x"), ["a"], [Attribute(name, "")], columns)


def test_without_a_phrase_for_absence_the_class_stands_alone() -> None:
    assert birds().group_phrases(Attribute("water", "on water"))[:2] == ["landbird", "landbird on water"]


def test_a_split_keeps_its_rows_in_order() -> None:
    test = birds().split("test")
    assert (test.ids, test.labels.tolist(), test.present("water").tolist()) == (["c", "d"], [1, 1], [False, True])
    assert test.image_paths() == [Path("/birds/sub/c.jpg"), Path("/birds/d.jpg")]


def test_rows_are_taken_by_mask_or_by_index() -> None:
    assert birds().rows(np.array([True, False, False, True])).ids == ["a", "d"]
    assert birds().rows(np.array([3, 0])).ids == ["d", "a"]


def test_a_split_without_rows_is_named() -> None:
    with pytest.raises(DataError, match="the split 'val' has no images"):
        birds(split=["train"] * 4).split("val")


def test_the_only_attribute_needs_no_name_and_a_wrong_name_gets_a_hint() -> None:
    assert birds().attribute() == WATER
    with pytest.raises(DataError, match="no attribute 'watr'; did you mean 'water'"):
        birds().attribute("watr")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"id": ["a", "b", "b", "d"]}, "two rows have the id 'b'"),
        ({"label": [0, 0, 1, 2]}, "outside the 2 classes"),
        ({"label": [0, -1, 1, 1]}, "outside the 2 classes"),
        ({"split": ["train", "dev", "val", "test"]}, "unknown split 'dev'"),
        ({name: [] for name in ("id", "image", "label", "split", "water")}, "it holds no images"),
    ],
)
def test_columns_that_make_no_dataset_are_refused(changed: dict[str, list[object]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        birds(**changed)


@pytest.mark.parametrize(
    ("name", "message"),
    [("mask", "'mask' is called as a column of every dataset is"), ("water", "'water' is named twice")],
)
def test_an_attribute_that_would_hide_another_column_is_refused(name: str, message: str) -> None:
    columns = {"id": ["a"], "image": ["a.jpg"], "label": [0], "split": ["train"], "water": [True], "mask": [None]}
    with pytest.raises(DataError, match=message):
        make_dataset("x:", Path("x"), ["a"], [WATER, Attribute(name, "")], columns)


NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6)
PIXELS = st.floats(0, 4000, width=32)


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    ids = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    classes = draw(st.lists(NAMES.filter(str.strip), min_size=1, max_size=4, unique=True))
    attributes = [
        Attribute(f"attribute {name}", phrase, absent)
        for name, phrase, absent in draw(
            st.lists(st.tuples(NAMES, NAMES, st.none() | NAMES), max_size=3, unique_by=lambda entry: entry[0])
        )
    ]

    def column(values: st.SearchStrategy[object]) -> list[object]:
        return draw(st.lists(values, min_size=len(ids), max_size=len(ids)))

    columns = {
        "id": ids,
        "image": column(NAMES),
        "label": column(st.integers(0, len(classes) - 1)),
        "split": column(st.sampled_from(SPLITS)),
        "box": column(st.none() | st.tuples(PIXELS, PIXELS, PIXELS, PIXELS)),
        "mask": column(st.none() | NAMES),
        **{attribute.name: column(st.booleans()) for attribute in attributes},
    }
    return make_dataset(draw(NAMES), Path("/data"), classes, attributes, columns)


def same(one: Dataset, other: Dataset) -> bool:
    about = [(d.spec, d.root, d.classes, d.attributes) for d in (one, other)]
    return about[0] == about[1] and one.table.equals(other.table, check_metadata=True)


@given(datasets())
def test_a_dataset_comes_back_from_its_arrow_table(dataset: Dataset) -> None:
    assert same(from_arrow(to_arrow(dataset)), dataset)


@settings(max_examples=20)
@given(datasets())
def test_a_dataset_comes_back_from_examples_parquet(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> None:
    file = tmp_path_factory.getbasetemp() / "examples.parquet"
    write_parquet(file, to_arrow(dataset))
    assert same(from_arrow(read_parquet(file)), dataset)


def test_a_table_that_despur_did_not_write_is_refused():
    with pytest.raises(DataError, match="does not say what its columns mean"):
        from_arrow(pa.table({"id": ["a"]}))
