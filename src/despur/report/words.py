"""Numbers and names as a reader sees them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite

NOTHING = "–"
FIRST_STRONG_ISOLATE, POP_ISOLATE = "\u2068", "\u2069"


def percent(rate: float) -> str:
    """A fraction for a sentence: ``41%``. What is not quite all or nothing is not rounded to it: ``99.8%``."""
    whole = f"{100 * rate:.0f}%"
    if (whole == "100%" and rate < 1) or (whole == "0%" and rate > 0):
        tenth = f"{100 * rate:.1f}%"
        return {"100.0%": "over 99.9%", "0.0%": "under 0.1%"}.get(tenth, tenth)
    return whole


def rate_text(rate: float | None) -> str:
    """A fraction for a table of percentages: ``41.0``."""
    return NOTHING if rate is None or not isfinite(rate) else f"{100 * rate:.1f}"


def score_text(score: float | None) -> str:
    """An AIoU: ``0.654``."""
    return NOTHING if score is None or not isfinite(score) else f"{score:.3f}"


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``2 min 05 s``, ``1 h 03 min``."""
    if not isfinite(seconds):
        return NOTHING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def counted(n: int, one: str, many: str) -> str:
    """``1 seed``, ``1,200 images``."""
    return f"{n:,} {one if n == 1 else many}"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def isolated(text: str) -> str:
    """Text from a user, isolated where it holds right-to-left script: it cannot reorder what stands around it."""
    reorders = any(unicodedata.bidirectional(mark) in {"R", "AL", "AN", "RLE", "RLO", "LRO", "RLI"} for mark in text)
    return f"{FIRST_STRONG_ISOLATE}{text}{POP_ISOLATE}" if reorders else text


def quoted(text: str) -> str:
    """A name from a user inside a sentence of ours."""
    return f"“{isolated(text)}”"


def encodable(text: str) -> str:
    """Text that UTF-8 can hold: a file name that was not UTF-8 shows its stray bytes as escapes."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


def flattened(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as rows: ``("mitigate.optimiser.lr", "1e-05")``."""
    for name, value in settings.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from flattened({str(inner): deeper for inner, deeper in value.items()}, f"{key}.")
        elif isinstance(value, (list, tuple)):
            yield key, ", ".join(str(item) for item in value) or "none"
        else:
            yield key, "none" if value is None or value == {} else str(value)
