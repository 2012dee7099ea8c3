"""What the history amounts to: who thinks what now, which detections are struck out, and what an undo would undo."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from despur.review.events import Event, Verdict

Pair = tuple[str, str]
"""(class, attribute)"""

Outcome = Literal["spurious", "healthy", "unsure", "disputed"]


class Judgements:
    """The history, folded event by event.

    Attributes:
        events: every event so far.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.events: list[Event] = []
        self._standing: dict[int, Event] = {}
        self._verdicts: dict[Pair, dict[str, list[Event]]] = {}
        self._strikes: dict[Pair, dict[str, list[Event]]] = {}
        self._acts: dict[str, list[Event]] = {}
        self.extend(events)

    @property
    def last(self) -> int:
        """Number of the newest event; 0: there is none."""
        return self.events[-1].number if self.events else 0

    def extend(self, events: Iterable[Event]) -> None:
        """Take in what was added to the history since."""
        for event in events:
            self.events.append(event)
            if event.kind == "undo":
                self._take_back(event)
            else:
                self._standing[event.number] = event
                self._acts.setdefault(event.who, []).append(event)
                self._standing_like(event).append(event)

    def extended(self, events: Sequence[Event]) -> Judgements:
        """These judgements with what was added to the history since; this object stays as it is for who reads it."""
        longer = Judgements()
        longer.events = [*self.events]
        longer._standing = dict(self._standing)
        longer._acts = {who: [*acts] for who, acts in self._acts.items()}
        undone = [self._standing.get(event.undoes or 0) for event in events]
        changed = {event.pair for event in (*events, *undone) if event is not None}
        longer._verdicts, longer._strikes = (
            {
                pair: {name: [*line] for name, line in lines.items()} if pair in changed else lines
                for pair, lines in by_pair.items()
            }
            for by_pair in (self._verdicts, self._strikes)
        )
        longer.extend(events)
        return longer

    def _standing_like(self, event: Event) -> list[Event]:
        """The standing events that ``event`` would be the newest of."""
        if event.kind == "verdict":
            return self._verdicts.setdefault(event.pair, {}).setdefault(event.who, [])
        return self._strikes.setdefault(event.pair, {}).setdefault(event.image or "", [])

    def _take_back(self, undo: Event) -> None:
        undone = self._standing.pop(undo.undoes or 0, None)
        if undone is not None:
            for events in (self._standing_like(undone), self._acts[undone.who]):
                # From the end, where it mostly stands.
                place = next(place for place in reversed(range(len(events))) if events[place] is undone)
                del events[place]

    def stands(self, number: int) -> bool:
        """Whether a verdict or strike is there and was not taken back."""
        return number in self._standing

    def undoable(self, who: str) -> Event | None:
        """What an undo by that person would take back: their newest standing action."""
        acts = self._acts.get(who)
        return acts[-1] if acts else None

    def by_person(self, pair: Pair) -> dict[str, Event]:
        """Everyone's current verdict on a pair, the earliest judge first."""
        given = self._verdicts.get(pair, {})
        return {who: verdicts[-1] for who, verdicts in given.items() if verdicts}

    def of(self, pair: Pair, who: str) -> Event | None:
        """One person's current verdict on a pair."""
        verdicts = self._verdicts.get(pair, {}).get(who)
        return verdicts[-1] if verdicts else None

    def judged(self) -> list[Pair]:
        """Every pair that somebody's verdict stands on, in the order of the first one."""
        return [pair for pair in self._verdicts if any(self._verdicts[pair].values())]

    def outcome(self, pair: Pair) -> Outcome | None:
        """What the judges agree on; ``disputed`` where two of them differ; None: nobody has judged."""
        verdicts: set[Outcome | None] = {event.verdict for event in self.by_person(pair).values()}
        if len(verdicts) > 1:
            return "disputed"
        return verdicts.pop() if verdicts else None

    def people(self) -> list[str]:
        """Everyone whose action stands, in the order of the first one."""
        return [who for who, acts in self._acts.items() if acts]

    def struck(self, pair: Pair) -> dict[str, Event]:
        """Ids of the pair's images that the detector is wrong about, and the event that says so."""
        said = self._strikes.get(pair, {})
        return {image: strikes[-1] for image, strikes in said.items() if strikes and strikes[-1].struck}

    def struck_pairs(self) -> list[Pair]:
        """Every pair with an image that the detector is wrong about."""
        return [pair for pair in self._strikes if self.struck(pair)]

    def verdicts_of(self, who: str) -> dict[Pair, Verdict]:
        """One person's current verdicts by pair."""
        found = {pair: self.of(pair, who) for pair in self._verdicts}
        return {pair: event.verdict for pair, event in found.items() if event and event.verdict}
