"""Amounts of memory as people write them."""

from __future__ import annotations

import re

from despur.errors import SettingsError

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def memory_bytes(text: str) -> int:
    """Bytes of "6GB", "512 MiB" or "1e9".

    Raises:
        SettingsError: it is no amount of memory, or none at all.
    """
    found = re.fullmatch(r"\s*([0-9.]+(?:e\d+)?)\s*([kmgt]i?)?b?\s*", text, flags=re.IGNORECASE)
    try:
        amount = 0 if found is None else int(float(found[1]) * UNITS[(found[2] or "").lower()])
    except (ValueError, OverflowError):
        amount = 0
    if amount <= 0:
        raise SettingsError(f"{text!r} is no amount of memory", where="--memory", now="write it as 6GB or 512MiB")
    return amount


def said_bytes(amount: int) -> str:
    """As a person would say it: "6.5 GB"."""
    # 999.5 kB and more are rounded to a thousand, which is one of the next unit.
    unit = next((unit for unit in ("t", "g", "m") if amount >= 0.9995 * UNITS[unit]), "k" if amount >= 1000 else "")
    return f"{amount / UNITS[unit]:.3g} {unit.upper()}B"
