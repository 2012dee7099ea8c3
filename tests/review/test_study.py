"""The study's own numbers are those of the ranking, and its strips begin with the images that tell most."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from despur.pipeline.ranking import read_ranking
from despur.pipeline.reviewing import ranking_is_current
from despur.rank.statistics import wilson_interval
from despur.review.events import Event, now
from despur.review.judgements import Judgements
from despur.review.numbers import Numbers, pair_numbers
from despur.review.queue import FIRST_PACE, pace
from despur.review.study import Candidate, Study, read_study
from despur.review.view import percent, relisted
from despur.workspace import StageRecord, Workspace


@pytest.fixture
def study(work: Path) -> Study:
    return read_study(Workspace.open(work))


def test_the_numbers_of_every_card_are_those_of_the_ranking(study: Study, work: Path) -> None:
    ranked = {(row["class"], row["attribute"]): row for row in read_ranking(Workspace.open(work)).table.to_pylist()}
    assert study.candidates
    for candidate in study.candidates:
        row, numbers = ranked[candidate.pair], study.numbers(candidate)
        assert (numbers.present.count, numbers.absent.count) == (row["n_with"], row["n_without"])
        found = (numbers.present.value, numbers.absent.value, numbers.discrepancy, numbers.low, numbers.high)
        columns = ("accuracy_with", "accuracy_without", "discrepancy", "ci_low", "ci_high")
        assert found == pytest.approx([row[column] for column in columns])
        assert numbers.p_value == pytest.approx(row["p_value"])
        confused = None if numbers.confused is None else study.dataset.classes[numbers.confused]
        assert confused == row["confused_class"]


def test_strips_begin_with_the_images_that_the_ranking_calls_telling(study: Study, work: Path) -> None:
    ranked = {(row["class"], row["attribute"]): row for row in read_ranking(Workspace.open(work)).table.to_pylist()}
    for candidate in study.candidates:
        with_it, without = study.strips(candidate)
        telling = ranked[candidate.pair]
        assert [study.id_of(row) for row in with_it[:10]] == telling["telling_with"]
        assert [study.id_of(row) for row in without[:10]] == telling["telling_without"]


def test_striking_an_image_moves_it_to_the_other_side(study: Study) -> None:
    candidate = study.candidates[0]
    with_it, without = study.strips(candidate)
    before = study.numbers(candidate)
    after = study.numbers(candidate, [study.id_of(with_it[0]), study.id_of(without[0]), study.id_of(without[1])])
    assert (after.present.count, after.absent.count) == (before.present.count + 1, before.absent.count - 1)
    assert study.numbers(candidate, ["no such image"]) == before


@pytest.mark.parametrize("seed", range(5))
def test_numbers_after_strikes_are_those_of_a_loop_over_the_corrected_images(study: Study, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for candidate in study.candidates:
        with_it, without = (rows.tolist() for rows in study.strips(candidate))
        # One time all images of a side, else some of both.
        struck = set(with_it if seed == 0 else rng.permutation([*with_it, *without])[: rng.integers(1, 9)].tolist())
        found = study.numbers(candidate, [study.id_of(row) for row in struck])
        label = study.dataset.classes.index(candidate.class_name)
        for rate, side, other in ((found.present, with_it, without), (found.absent, without, with_it)):
            rows = [row for row in side if row not in struck] + [row for row in other if row in struck]
            right = [bool(study.predicted[row] == label) for row in rows]
            assert rate.count == len(rows)
            assert rate.value == (pytest.approx(sum(right) / len(right)) if right else None)
        if found.present.value is None or found.absent.value is None:
            assert found.discrepancy is None
        else:
            assert found.discrepancy == pytest.approx(found.present.value - found.absent.value)


def test_a_pair_is_counted_again_when_its_struck_images_change_and_not_at_every_look(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[frozenset[str]] = []
    numbers = Study.numbers

    def spied(self: Study, candidate: Candidate, struck: Collection[str] = ()) -> Numbers:
        counted.append(frozenset(struck))
        return numbers(self, candidate, struck)

    monkeypatch.setattr(Study, "numbers", spied)
    first = study.candidates[0]
    rows = study.class_rows(first.class_name)
    strikes = [
        Event(
            number=number,
            kind="strike",
            who="Ada",
            at=now(),
            class_name=first.class_name,
            attribute=first.attribute,
            image=study.id_of(int(row)),
        )
        for number, row in enumerate(rows[:2], start=1)
    ]
    one, two = Judgements(strikes[:1]), Judgements(strikes)
    seen = [relisted(study, judgements)[0] for judgements in (one, one, two, two, one)]
    ids = [frozenset(one.struck(first.pair)), frozenset(two.struck(first.pair))]
    assert counted == [ids[0], ids[1], ids[0]]
    assert seen[0] == seen[1] == seen[4] != seen[2] == seen[3]
    assert relisted(study, Judgements())[0] == first


def test_a_pair_whose_images_all_have_the_attribute_has_no_discrepancy() -> None:
    yes = np.ones(3, dtype=np.bool_)
    numbers = pair_numbers(yes, yes, np.zeros(3, dtype=np.int64))
    assert (numbers.present.value, numbers.absent.value, numbers.discrepancy, numbers.p_value) == (
        1.0,
        None,
        None,
        None,
    )
    low, high = wilson_interval(np.array([3]), np.array([3]))
    assert (numbers.present.low, numbers.present.high) == pytest.approx((low[0], high[0]))


def test_the_ranking_that_the_stage_wrote_is_current_until_something_before_it_changes(work: Path) -> None:
    workspace = Workspace.open(work)
    assert ranking_is_current(workspace)
    workspace.save_record("detect", StageRecord(settings={}, inputs="again", versions={}, seed=None, seconds=1.0))
    assert not ranking_is_current(workspace)


def test_the_pace_is_the_persons_own_and_pauses_do_not_count() -> None:
    start = now()

    def judged(number: int, seconds: float) -> Event:
        at = start.fromtimestamp(start.timestamp() + seconds, start.tzinfo)
        return Event(number=number, kind="verdict", who="Ada", at=at, class_name="c", attribute="a", verdict="unsure")

    events = [judged(number, seconds) for number, seconds in enumerate((0, 10, 22, 30, 4000, 4010), start=1)]
    assert pace(events, "Ada") == pytest.approx(10)
    assert pace(events, "Bo") == FIRST_PACE


@pytest.mark.parametrize(
    ("rate", "said"), [(0.31, "31%"), (1.0, "100%"), (0.0, "0%"), (0.9991, "99.9%"), (0.0001, "0.1%"), (None, "–")]
)
def test_what_is_not_quite_all_or_nothing_is_not_rounded_to_it(rate: float | None, said: str) -> None:
    assert percent(rate) == said
