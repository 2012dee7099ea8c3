from __future__ import annotations

import pytest

from despur.data.quarantine import QUARANTINE_SCHEMA, check_share, check_unreadable, quarantine_table
from despur.errors import DataError, SettingsError

FOUR = quarantine_table([(str(n), f"{n}.jpg", "it is cut short") for n in range(4)])


def test_the_table_keeps_every_entry_in_order() -> None:
    table = quarantine_table([("7", "b.jpg", "it is empty (zero bytes)"), ("2", "a.jpg", "there is no such file")])
    assert table.to_pylist() == [
        {"id": "7", "image": "b.jpg", "reason": "it is empty (zero bytes)"},
        {"id": "2", "image": "a.jpg", "reason": "there is no such file"},
    ]


def test_an_empty_quarantine_is_a_table_too() -> None:
    assert quarantine_table([]).schema == QUARANTINE_SCHEMA
    check_unreadable(quarantine_table([]), total=0, where="folder:x")


def test_one_in_a_hundred_may_be_unreadable() -> None:
    check_unreadable(FOUR, total=400, where="folder:x")


def test_more_stop_the_run_and_the_first_three_are_named() -> None:
    with pytest.raises(DataError, match=r"^folder:x: 4 of 399 images cannot be read") as caught:
        check_unreadable(FOUR, total=399, where="folder:x")
    message = str(caught.value)
    assert "0.jpg (it is cut short); 1.jpg (it is cut short); 2.jpg (it is cut short); ..." in message
    assert "3.jpg" not in message
    assert "--max-unreadable" in message


def test_the_user_may_accept_more() -> None:
    check_unreadable(FOUR, total=8, max_unreadable=0.5, where="folder:x")
    with pytest.raises(DataError):
        check_unreadable(FOUR, total=8, max_unreadable=0, where="folder:x")


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_share_outside_0_to_1_is_refused_as_such(share: float) -> None:
    with pytest.raises(SettingsError, match="is no share of the images"):
        check_share(share)
    with pytest.raises(SettingsError, match="is no share of the images"):
        check_unreadable(quarantine_table([]), total=51, max_unreadable=share, where="folder:x")
