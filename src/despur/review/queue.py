"""Which cards a person sees, in which order, and how much is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Annotated, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from despur.review.events import Event, Text
from despur.review.judgements import Judgements
from despur.review.study import Candidate

SIGNIFICANT = 0.05
"""False-discovery rate up to which a discrepancy counts as significant."""

FIRST_PACE = 20.0
"""Seconds a card, until a person's own pace is known."""

PAUSE = 300.0
"""Seconds between two verdicts from which on the person was away."""

RECENT = 51
"""A person's newest verdicts, whose gaps say how fast they are now."""

FEWEST_GAPS = 3
"""Gaps from which on they count as a person's own pace."""


def _or_none(given: object) -> object:
    """A field that was emptied asks for no image at least."""
    return 0 if given == "" else given


class Filter(BaseModel):
    """What narrows the queue; it rides along in the address.

    Attributes:
        q: text that the class, the attribute or one that it stands for contains.
        side: ``helps`` (shortcut candidates), ``hurts``, ``shown`` (both), ``all`` (every pair that was counted).
        class_name: one class.
        verdict: an outcome; ``open``: not judged by this person; ``any``.
        count: least number of images with the attribute.
        significant: only where the false-discovery rate is at most :data:`SIGNIFICANT`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    q: Annotated[Text, Field(max_length=200)] = ""
    side: Literal["helps", "hurts", "shown", "all"] = "shown"
    class_name: Text = ""
    verdict: Literal["any", "open", "spurious", "healthy", "unsure", "disputed"] = "any"
    count: Annotated[int, BeforeValidator(_or_none), Field(ge=0, le=10**9)] = 0
    significant: bool = False

    def address(self, path: str, **more: str | int) -> str:
        """A page's address under this filter; what is as usual is left out of it.

        Args:
            more: further fields of the query.
        """
        changed = {**self.model_dump(exclude_defaults=True), **more}
        query = urlencode({name: "1" if value is True else value for name, value in changed.items()})
        return f"{path}?{query}" if query else path

    def admits(self, candidate: Candidate) -> bool:
        """Whether a pair passes, whatever anyone thinks of it."""
        if self.side != "all" and not candidate.shown:
            return False
        if self.side in ("helps", "hurts") and candidate.helps != (self.side == "helps"):
            return False
        if self.class_name and candidate.class_name != self.class_name:
            return False
        if candidate.n_with < self.count:
            return False
        if self.significant and (candidate.q_value is None or candidate.q_value > SIGNIFICANT):
            return False
        wanted = self.q.strip().casefold()
        names = (candidate.class_name, candidate.attribute, *candidate.also)
        return not wanted or any(wanted in name.casefold() for name in names)

    def admits_verdict(self, candidate: Candidate, judgements: Judgements, who: str) -> bool:
        """Whether a pair passes by what was judged: by this person ("open") or by all."""
        if self.verdict == "any":
            return True
        if self.verdict == "open":
            return judgements.of(candidate.pair, who) is None
        return judgements.outcome(candidate.pair) == self.verdict


@dataclass(frozen=True)
class Queue:
    """A person's cards under a filter.

    Attributes:
        candidates: what the filter admits, whatever its verdict; the order in which cards follow each other.
        listed: those whose verdict it admits too.
        judged: how many of ``candidates`` this person has judged.
        pace: seconds that they take a verdict.
    """

    candidates: Sequence[Candidate]
    listed: Sequence[Candidate]
    judged: int
    pace: float

    @property
    def minutes_left(self) -> int:
        """Rounded up, at this person's pace."""
        return -int(-(len(self.candidates) - self.judged) * self.pace // 60)


def make_queue(candidates: Sequence[Candidate], chosen: Filter, judgements: Judgements, who: str) -> Queue:
    """The queue that a filter leaves, and how far the person is."""
    admitted = [candidate for candidate in candidates if chosen.admits(candidate)]
    listed = [candidate for candidate in admitted if chosen.admits_verdict(candidate, judgements, who)]
    judged = sum(judgements.of(candidate.pair, who) is not None for candidate in admitted)
    return Queue(admitted, listed, judged, pace(judgements.events, who))


def next_open(queue: Queue, judgements: Judgements, who: str, after: str | None = None) -> Candidate | None:
    """The next card that this person has not judged, from the one with key ``after`` on, round the end; None: none."""
    keys = [candidate.key for candidate in queue.candidates]
    start = keys.index(after) + 1 if after in keys else 0
    for candidate in (*queue.candidates[start:], *queue.candidates[:start]):
        if judgements.of(candidate.pair, who) is None:
            return candidate
    return None


def neighbours(queue: Queue, key: str) -> tuple[Candidate | None, Candidate | None]:
    """The cards before and after one, in the queue's order."""
    keys = [candidate.key for candidate in queue.candidates]
    if key not in keys:
        return None, queue.candidates[0] if queue.candidates else None
    place = keys.index(key)
    before = queue.candidates[place - 1] if place else None
    after = queue.candidates[place + 1] if place + 1 < len(keys) else None
    return before, after


def pace(events: Sequence[Event], who: str) -> float:
    """Seconds that a person takes a verdict: the median of their latest gaps, pauses left out."""
    moments = [event.at for event in events if event.who == who and event.kind == "verdict"][-RECENT:]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(moments)]
    worked = [gap for gap in gaps if 0 <= gap < PAUSE]
    return median(worked) if len(worked) >= FEWEST_GAPS else FIRST_PACE
