from __future__ import annotations

from math import nan

import pytest

from despur.report.words import duration, encodable, flattened, isolated, listed, percent, rate_text


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.41, "41%"), (1.0, "100%"), (0.0, "0%"), (0.998, "99.8%"), (0.9999, "over 99.9%"), (0.0001, "under 0.1%")],
)
def test_only_all_is_all_and_only_nothing_is_nothing(rate: float, text: str) -> None:
    assert percent(rate) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0.4 s"), (9.96, "10 s"), (59.7, "1 min 00 s"), (125.0, "2 min 05 s"), (3780, "1 h 03 min"), (nan, "–")],
)
def test_durations_read_as_a_person_says_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_no_number_is_a_dash() -> None:
    assert rate_text(None) == rate_text(nan) == "–"


def test_right_to_left_names_are_fenced_off_and_others_left_alone() -> None:
    assert isolated("waterbird") == "waterbird"
    assert isolated("עוף") == "\u2068עוף\u2069"


def test_a_file_name_that_is_not_utf_8_shows_its_bytes() -> None:
    assert encodable("bird\udcff.jpg") == "bird\\udcff.jpg"


def test_lists_end_with_and() -> None:
    assert [listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_nested_settings_become_dotted_names() -> None:
    settings = {"mitigate": {"optimiser": {"lr": 1e-4}, "losses": ["clip", "vc"], "masks": None}, "seeds": []}
    assert list(flattened(settings)) == [
        ("mitigate.optimiser.lr", "0.0001"),
        ("mitigate.losses", "clip, vc"),
        ("mitigate.masks", "none"),
        ("seeds", "none"),
    ]
