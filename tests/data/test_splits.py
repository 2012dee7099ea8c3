from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from despur.data.splits import check_splits, draw_splits, hold_out, split_name
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
    with pytest.raises(DataError, match="the class 'b' has 2 images to train on, too few"):
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


@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(1, 30), st.integers(0, 99))
def test_as_many_are_held_out_of_every_stratum_and_something_is_left_to_train_on(
    sizes: list[int], each: int, seed: int
) -> None:
    strata = [stratum for stratum, size in enumerate(sizes) for _ in range(size)]
    held = hold_out(strata, each=each, seed=seed)
    assert held == hold_out(strata, each=each, seed=seed)
    for stratum, size in enumerate(sizes):
        count = sum(is_held for is_held, mine in zip(held, strata, strict=True) if mine == stratum)
        assert count == (each if size > each else size // 2)
        assert count < size
