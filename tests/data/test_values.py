from __future__ import annotations

from despur.data.values import value_columns


def test_two_values_are_one_attribute_whose_absence_is_the_other() -> None:
    attributes, columns = value_columns(["land", "water"], [0, 1, 1])
    assert [(a.name, a.phrase, a.absent_phrase) for a in attributes] == [("water", "on water", "on land")]
    assert columns == {"water": [False, True, True]}


def test_more_values_are_an_attribute_each() -> None:
    attributes, columns = value_columns(["grass", "rock", "water"], [2, 0, 0, 1])
    assert [a.phrase for a in attributes] == ["with grass", "with rock", "on water"]
    assert columns == {
        "grass": [False, True, True, False],
        "rock": [False, False, False, True],
        "water": [True, False, False, False],
    }


def test_one_value_says_nothing() -> None:
    assert value_columns(["0"], [0, 0]) == ([], {})
