"""What the report says of the maps beside AIoU: where they lie, and whether they may be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from despur.report import Look, MapCheck


def looks_of(phrases: Sequence[str], before: Mapping[str, Any], after: Mapping[str, Any] | None) -> list[Look]:
    """Groups whose maps were held against the attribute's place.

    Args:
        phrases: of the groups, in the order of ``accuracy.groups``.
        before, after: two runs' ``metrics.json``.
    """
    names = [(group["class"], group["present"]) for group in before["accuracy"]["groups"]]
    phrase_of = dict(zip(names, phrases, strict=True))
    later = {} if after is None else {_name(row): _shares(row) for row in _elsewhere(after)}
    return [
        Look(
            phrase=phrase_of[_name(row)],
            n=row["n"],
            object_area=row["object_area"],
            attribute_area=row["attribute_area"],
            before=_shares(row),
            after=later.get(_name(row)),
        )
        for row in _elsewhere(before)
    ]


def map_checks_of(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> list[MapCheck]:
    """The checks of those models' maps that were checked, from (title, ``metrics.json``)."""
    checked = [(title, (metrics.get("explanations") or {}).get("checks")) for title, metrics in runs]
    return [MapCheck(title=title, **checks) for title, checks in checked if checks]


def _elsewhere(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    return (metrics.get("explanations") or {}).get("elsewhere") or []


def _name(row: Mapping[str, Any]) -> tuple[str, bool]:
    return row["class"], row["present"]


def _shares(row: Mapping[str, Any]) -> tuple[float, float]:
    return row["on_object"], row["on_attribute"]
