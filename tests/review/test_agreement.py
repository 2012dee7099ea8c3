from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from despur.review.agreement import agreements, cohen_kappa, disagreements
from despur.review.events import VERDICTS, Event, now
from despur.review.judgements import Judgements


def judged(*entries: tuple[str, str, str]) -> Judgements:
    """(who, attribute, verdict), in order."""
    return Judgements(
        Event(number=number, kind="verdict", who=who, at=now(), class_name="c", attribute=attribute, verdict=verdict)
        for number, (who, attribute, verdict) in enumerate(entries, start=1)
    )


@given(st.lists(st.tuples(st.sampled_from(VERDICTS), st.sampled_from(VERDICTS)), min_size=1, max_size=30))
def test_kappa_is_that_of_an_independent_package(both: list[tuple[str, str]]) -> None:
    first, second = ({("c", str(n)): entry[side] for n, entry in enumerate(both)} for side in (0, 1))
    kappa = cohen_kappa(first, second)
    if len({*first.values(), *second.values()}) == 1:
        assert kappa is None
    else:
        assert kappa == pytest.approx(cohen_kappa_score(list(first.values()), list(second.values())))


def test_only_pairs_that_both_judged_are_compared() -> None:
    judgements = judged(("Ada", "a", "spurious"), ("Ada", "b", "healthy"), ("Bo", "b", "unsure"), ("Bo", "c", "unsure"))
    (only,) = agreements(judgements)
    assert (only.first, only.second, only.judged, only.agreed) == ("Ada", "Bo", 1, 0)
    assert disagreements(judgements) == [("c", "b")]


def test_people_with_nothing_in_common_have_no_kappa() -> None:
    assert cohen_kappa({("c", "a"): "spurious"}, {("c", "b"): "spurious"}) is None
    assert agreements(judged(("Ada", "a", "spurious"), ("Bo", "b", "spurious"))) == []
