from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from despur.data.splits import check_splits, draw_splits, split_name
from despur.errors import DataError


@pytest.mark.parametrize(
    ("word", "split"),
    [("Training", "train"), ("valid", "val"), ("validation", "val"), (" dev ", "val"), ("TEST", "test"), ("x", None)],
)
def test_a_split_goes_by_the_names_that_people_use(word: str, split: str | None) -> None:
    assert split_name(word) == split


@given(st.lists(st.integers(3, 60), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_every_class_gives_a_tenth_to_validation_and_a_tenth_to_test(sizes: list[int], seed: int) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    drawn = draw_splits("folder:x", [str(label) for label in range(len(sizes))], labels, seed)
    for label, size in enumerate(sizes):
        mine = [split for split, of in zip(drawn, labels, strict=True) if of == label]
        assert mine.count("val") == mine.count("test") == max(1, round(size / 10))


def test_the_seed_decides() -> None:
    labels = [0, 1] * 50
    draws = [draw_splits("folder:x", ["a", "b"], labels, seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_a_class_too_small_to_split_is_named() -> None:
    with pytest.raises(DataError, match="the class 'b' has 2 images, too few"):
        draw_splits("folder:x", ["a", "b"], [0, 0, 0, 1, 1], 0)


@pytest.mark.parametrize(
    ("classes", "labels", "splits", "message"),
    [
        (["a"], [0, 0, 0], ["train", "val", "test"], r"one class \(a\)"),
        (["a", "b"], [0, 1, 0], ["train", "train", "test"], "the split 'val' has no images"),
        (["a", "b"], [0, 1, 1], ["train", "val", "test"], "the class 'b' has no training images"),
    ],
)
def test_what_cannot_be_trained_and_judged_is_refused(
    classes: list[str], labels: list[int], splits: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        check_splits("folder:x", classes, labels, splits)
