"""What the report says of the maps, from two small ``metrics.json``."""

from __future__ import annotations

from typing import Any

from despur.pipeline.looking import looks_of, map_checks_of

CHECKS = {"deletion": 0.1, "deletion_random": 0.2, "insertion": 0.6, "insertion_random": 0.5, "agreement": 0.0}


def metrics(on_attribute: float, checks: dict[str, float] | None = None) -> dict[str, Any]:
    groups = [{"class": name, "present": present} for name in ("landbird", "waterbird") for present in (False, True)]
    share = {"on_object": 0.3, "on_attribute": on_attribute, "object_area": 0.1, "attribute_area": 0.4}
    seen = [{"class": "waterbird", "present": True, "n": 7, **share}]
    return {"accuracy": {"groups": groups}, "explanations": {"elsewhere": seen, "checks": checks}}


PHRASES = ["landbird on land", "landbird on water", "waterbird on land", "waterbird on water"]


def test_a_group_is_named_and_held_before_and_after():
    (look,) = looks_of(PHRASES, metrics(0.6), metrics(0.2))
    assert (look.phrase, look.n, look.before, look.after) == ("waterbird on water", 7, (0.3, 0.6), (0.3, 0.2))


def test_without_a_repaired_model_or_without_maps_nothing_is_made_up():
    (look,) = looks_of(PHRASES, metrics(0.6), None)
    assert look.after is None
    assert looks_of(PHRASES, metrics(0.6) | {"explanations": None}, None) == []


def test_only_models_whose_maps_were_checked_are_listed():
    (check,) = map_checks_of([("zero-shot", metrics(0.6, CHECKS)), ("erm", metrics(0.6))])
    assert check.title == "zero-shot"
    assert check.better_than_noise
