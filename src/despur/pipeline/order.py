"""The order of the stages, which ``workspace.json`` does not keep: a stage that is run again is written last there."""

from __future__ import annotations

from collections.abc import Iterable

ORDER = (
    "wording",
    "embed",
    "predict",
    "detect",
    "rank",
    "tune",
    "mitigate",
    "explain",
    "retain",
    "evaluate",
    "blend",
)
"""As ``despur run`` goes through them; "mitigate/clip" and the like stand under their first word."""


def in_order(stages: Iterable[str]) -> list[str]:
    """Each of the stages once, none before one that it may read from; names that are not known come last."""
    place = {name: number for number, name in enumerate(ORDER)}
    return sorted(dict.fromkeys(stages), key=lambda stage: place.get(stage.partition("/")[0], len(ORDER)))
