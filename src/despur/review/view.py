"""What a card and a list show, worked out before the template sees it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from despur.rank.statistics import false_discovery_rate
from despur.review.events import Event
from despur.review.judgements import Judgements, Outcome
from despur.review.numbers import Numbers
from despur.review.study import Candidate, Study

STRIP = 12
"""Images that a strip starts with, and how many more come at a time."""


@dataclass(frozen=True)
class Shot:
    """One image of a strip.

    Attributes:
        row: names it in addresses.
        right: whether the model is right about it.
        says: the class that the model says.
        boxed: whether the detector says where the attribute is.
        struck: the event by which somebody said that the detector is wrong; None: nobody did.
    """

    row: int
    image: str
    right: bool
    says: str
    boxed: bool
    struck: Event | None


@dataclass(frozen=True)
class Card:
    """A pair as it stands now.

    Attributes:
        numbers, q_value: with what was struck out counted on the other side.
        confused: the class that the model says most often of images without the attribute; None: it errs on none.
        struck: how many of the detector's mistakes were struck out.
        with_it, without: rows of the images of each strip, the most telling first.
        mine, others: the verdicts of the person who asks and of everyone else.
    """

    candidate: Candidate
    numbers: Numbers
    q_value: float | None
    confused: str | None
    struck: int
    with_it: Sequence[int]
    without: Sequence[int]
    mine: Event | None
    others: Sequence[Event]
    outcome: Outcome | None


def make_card(study: Study, candidate: Candidate, judgements: Judgements, who: str) -> Card:
    """Everything that a card shows."""
    struck = judgements.struck(candidate.pair)
    numbers = study.numbers(candidate, struck)
    with_it, without = study.strips(candidate)
    verdicts = judgements.by_person(candidate.pair)
    return Card(
        candidate=candidate,
        numbers=numbers,
        q_value=candidate.q_value if not struck else adjusted_rate(study, candidate, numbers),
        confused=None if numbers.confused is None else study.dataset.classes[numbers.confused],
        struck=len(struck),
        with_it=with_it.tolist(),
        without=without.tolist(),
        mine=verdicts.get(who),
        others=[event for name, event in verdicts.items() if name != who],
        outcome=judgements.outcome(candidate.pair),
    )


def adjusted_rate(study: Study, candidate: Candidate, numbers: Numbers) -> float | None:
    """The false-discovery rate with this pair's new p-value among the ranking's other ones."""
    p_values = study.p_values.copy()
    p_values[study.place_of[candidate.pair]] = np.nan if numbers.p_value is None else numbers.p_value
    rate = false_discovery_rate(p_values)[study.place_of[candidate.pair]]
    return None if np.isnan(rate) else float(rate)


def shots(study: Study, candidate: Candidate, judgements: Judgements, rows: Sequence[int]) -> list[Shot]:
    """Images of a strip, as they are shown."""
    struck = judgements.struck(candidate.pair)
    boxed = study.boxed_rows(candidate)
    found: list[Shot] = []
    for row in rows:
        image, predicted = study.id_of(row), int(study.predicted[row])
        found.append(
            Shot(
                row=row,
                image=image,
                right=predicted == int(study.labels[row]),
                says=study.dataset.classes[predicted],
                boxed=row in boxed,
                struck=struck.get(image),
            )
        )
    return found


def relisted(study: Study, judgements: Judgements) -> list[Candidate]:
    """The candidates in the ranking's order, those with struck images with their numbers of now."""
    changed = {pair: judgements.struck(pair) for pair in judgements.struck_pairs()}
    if not changed:
        return study.candidates
    return [_renumbered(study, each, changed[each.pair]) if each.pair in changed else each for each in study.candidates]


def _renumbered(study: Study, candidate: Candidate, struck: Collection[str]) -> Candidate:
    """The pair with its numbers of now; counted when its struck images change, and not at every look at the queue."""
    ids = frozenset(struck)
    known = study.recounted.get(candidate.pair)
    if known is not None and known[0] == ids:
        return known[1]
    numbers = study.numbers(candidate, ids)
    changed = replace(
        candidate,
        n_with=numbers.present.count,
        n_without=numbers.absent.count,
        accuracy_with=numbers.present.value,
        accuracy_without=numbers.absent.value,
        discrepancy=numbers.discrepancy,
        q_value=adjusted_rate(study, candidate, numbers),
    )
    study.recounted[candidate.pair] = (ids, changed)
    return changed


def percent(rate: float | None) -> str:
    """A rate for a sentence: ``41%``; what is not quite all or nothing keeps a decimal rather than be rounded to it."""
    if rate is None:
        return "–"
    digits = 1 if 0 < rate < 0.005 or 0.995 <= rate < 1 else 0
    return f"{100 * min(max(rate, 0.001 if rate > 0 else 0.0), 0.999 if rate < 1 else 1.0):.{digits}f}%"


def points(difference: float | None) -> str:
    """A difference of rates: ``+41``."""
    return "–" if difference is None else f"{100 * difference:+.0f}"


def q_text(value: float | None) -> str:
    """A false-discovery rate: ``<0.001``, ``0.032``."""
    if value is None:
        return "–"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def rows_from(strip: Sequence[int] | Int[np.ndarray, "rows"], start: int) -> list[int]:
    """The next :data:`STRIP` of a strip's rows, from a place on."""
    return [int(row) for row in strip[start : start + STRIP]]


def rows_up_to(strip: Sequence[int], image: int | None) -> list[int]:
    """A strip's first rows in steps of :data:`STRIP`, so many that ``image``, if it is in the strip, is among them."""
    steps = strip.index(image) // STRIP + 1 if image is not None and image in strip else 1
    return [int(row) for row in strip[: steps * STRIP]]
