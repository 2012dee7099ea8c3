"""Amounts of memory as people write them."""

from __future__ import annotations

import pytest

from despur.errors import SettingsError
from despur.workspace import memory_bytes, said_bytes


@pytest.mark.parametrize(
    ("text", "amount"),
    [("6GB", 6 * 10**9), ("512 MiB", 2**29), ("1.5g", 1_500_000_000), ("1e9", 10**9), ("100", 100), ("20kB", 20_000)],
)
def test_amounts_are_read_as_they_are_meant(text: str, amount: int) -> None:
    assert memory_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "plenty", "-1GB", "0", "1.2.3GB", "GB", "5 apples", "1e999GB"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is no amount of memory"):
        memory_bytes(text)


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (6_500_000_000, "6.5 GB"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 KB"),
        (999_400, "999 KB"),
        (999_500, "1 MB"),
        (999_900_000, "1 GB"),
        (999_500_000_000, "1 TB"),
        (25_000_000_000_000, "25 TB"),
    ],
)
def test_amounts_are_said_in_three_digits(amount: int, said: str) -> None:
    assert said_bytes(amount) == said
