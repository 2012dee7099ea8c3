from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from despur.errors import WorkspaceError
from despur.review.events import Action, Verdict, now
from despur.review.judgements import Judgements
from despur.review.store import StoreBusyError, VerdictStore

PAIR = ("baby pacifier", "baby")


def verdict(who: str = "Ada", verdict: Verdict = "spurious", pair: tuple[str, str] = PAIR, note: str = "") -> Action:
    return Action(kind="verdict", who=who, at=now(), class_name=pair[0], attribute=pair[1], verdict=verdict, note=note)


def strike(image: str, who: str = "Ada", struck: bool = True) -> Action:
    return Action(kind="strike", who=who, at=now(), class_name=PAIR[0], attribute=PAIR[1], image=image, struck=struck)


def undo(number: int, who: str = "Ada") -> Action:
    return Action(kind="undo", who=who, at=now(), class_name=PAIR[0], attribute=PAIR[1], undoes=number)


@pytest.fixture
def store(tmp_path: Path) -> VerdictStore:
    return VerdictStore(tmp_path / "verdicts.sqlite")


def test_what_was_added_is_there_when_the_file_is_opened_again(store: VerdictStore) -> None:
    written = store.add(verdict(note="“quotes”, <b>, \U0001f9f7, שלום"))
    assert VerdictStore(store.path).events() == [written]


def test_the_same_request_sent_twice_is_one_event(store: VerdictStore) -> None:
    first = store.add(verdict(), request="a wish")
    assert store.add(verdict(verdict="healthy"), request="a wish") == first
    assert store.events() == [first]


def test_the_history_refuses_to_be_changed_or_shortened(store: VerdictStore) -> None:
    store.add(verdict())
    other = sqlite3.connect(store.path)
    for statement in ("DELETE FROM history", "UPDATE history SET action = '{}'"):
        with pytest.raises(sqlite3.IntegrityError, match="history is never"):
            other.execute(statement)


def test_many_actions_are_added_together_or_not_at_all(store: VerdictStore) -> None:
    def broken() -> list[Action]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.add_all(broken)
    assert [event.number for event in store.add_all(lambda: [verdict(), verdict("Bo")])] == [1, 2]


def test_a_store_that_another_process_keeps_locked_says_so(store: VerdictStore) -> None:
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    impatient = pytest.raises(StoreBusyError, match="locked")
    with impatient:
        VerdictStore(store.path, patience=0.05).add(verdict())
    other.execute("ROLLBACK")
    store.add(verdict())


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps an open file where it is")
@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_written_into_a_file_that_is_no_longer_at_its_place(replaced: bool, store: VerdictStore) -> None:
    store.add(verdict())
    store.path.rename(store.path.with_name("moved.sqlite"))
    if replaced:
        store.path.touch()
    for use in (lambda: store.add(verdict("Bo")), store.events):
        with pytest.raises(WorkspaceError, match="moved or replaced"):
            use()


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "verdicts.sqlite").write_text("not a database at all, but long enough to be looked at" * 40)
    with pytest.raises(WorkspaceError, match=r"verdicts\.sqlite"):
        VerdictStore(tmp_path / "verdicts.sqlite").events()


CLIENT = """
import sys
from pathlib import Path
from despur.review.events import Action, now
from despur.review.store import VerdictStore

store, who, count = VerdictStore(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
for number in range(count):
    action = Action(
        kind="verdict", who=who, at=now(), class_name="class", attribute=f"attribute {number}", verdict="spurious"
    )
    for _ in "sent", "sent again":
        store.add(action, request=f"{who} {number}")
    print(number, flush=True)
"""


def client(path: Path, who: str, count: int) -> subprocess.Popen[str]:
    """Another process that adds ``count`` verdicts, each sent twice, and prints the number of each that is answered."""
    command = [sys.executable, "-c", CLIENT, str(path), who, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_thousand_verdicts_from_eight_processes_are_all_there_none_twice_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.sqlite"
    clients = [client(path, f"client {number}", 125) for number in range(8)]
    for each in clients:
        each.communicate(timeout=200)
    assert [each.returncode for each in clients] == [0] * 8
    events = VerdictStore(path).events()
    assert [event.number for event in events] == list(range(1, 1001))
    for number in range(8):
        own = [event.attribute for event in events if event.who == f"client {number}"]
        assert own == [f"attribute {n}" for n in range(125)]


def test_what_was_answered_before_kill_9_is_there(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.sqlite"
    writer = client(path, "Ada", 100_000)
    assert writer.stdout is not None
    answered = [f"attribute {int(writer.stdout.readline())}" for _ in range(20)]
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate(timeout=60)
    kept = VerdictStore(path).events()
    assert [event.attribute for event in kept][: len(answered)] == answered
    VerdictStore(path).add(verdict())


def test_the_newest_verdict_of_a_person_counts_and_every_earlier_one_is_kept(store: VerdictStore) -> None:
    store.add(verdict(verdict="unsure"))
    store.add(verdict(verdict="spurious"))
    judgements = Judgements(store.events())
    assert judgements.outcome(PAIR) == "spurious"
    assert [event.verdict for event in judgements.events] == ["unsure", "spurious"]


def test_two_people_who_differ_leave_a_pair_disputed(store: VerdictStore) -> None:
    store.add(verdict("Ada", "spurious"))
    store.add(verdict("Bo", "healthy"))
    assert Judgements(store.events()).outcome(PAIR) == "disputed"
    store.add(verdict("Bo", "spurious"))
    assert Judgements(store.events()).outcome(PAIR) == "spurious"


def test_an_undo_brings_the_earlier_verdict_back_and_touches_nobody_else(store: VerdictStore) -> None:
    first = store.add(verdict("Ada", "healthy"))
    second = store.add(verdict("Ada", "spurious"))
    store.add(verdict("Bo", "unsure"))
    judgements = Judgements(store.events())
    assert judgements.undoable("Ada") == second
    judgements.extend([store.add(undo(second.number))])
    assert judgements.by_person(PAIR)["Ada"] == first
    assert judgements.by_person(PAIR)["Bo"].verdict == "unsure"
    judgements.extend([store.add(undo(first.number))])
    assert "Ada" not in judgements.by_person(PAIR)
    assert judgements.undoable("Ada") is None


def test_folding_the_history_at_once_or_event_by_event_is_the_same(store: VerdictStore) -> None:
    store.add(verdict())
    struck = store.add(strike("image 3"))
    store.add(undo(struck.number))
    store.add(strike("image 4"))
    store.add(strike("image 4", struck=False))
    store.add(strike("image 5"))
    stepwise = Judgements()
    for event in store.events():
        stepwise.extend([event])
    at_once = Judgements(store.events())
    assert list(stepwise.struck(PAIR)) == list(at_once.struck(PAIR)) == ["image 5"]
    assert stepwise.undoable("Ada") == at_once.undoable("Ada")


@pytest.mark.parametrize("seed", range(5))
def test_judgements_with_what_came_since_are_those_of_the_whole_history_and_the_earlier_ones_stay(
    seed: int, store: VerdictStore
) -> None:
    rng = random.Random(seed)
    pairs = [PAIR, ("eraser", "hand"), ("eraser", "table")]
    for number in range(1, 61):
        who = rng.choice(["Ada", "Bo"])
        kind = rng.randrange(3)
        if kind == 0:
            store.add(verdict(who, rng.choice(["spurious", "healthy"]), rng.choice(pairs)))
        elif kind == 1:
            store.add(strike(f"image {rng.randrange(3)}", who, rng.random() < 0.7))
        else:
            store.add(undo(rng.randint(1, number), who))
    events = store.events()

    def told(judgements: Judgements) -> object:
        return (
            judgements.last,
            judgements.people(),
            [judgements.undoable(who) for who in ("Ada", "Bo")],
            {pair: (judgements.by_person(pair), judgements.struck(pair)) for pair in pairs},
            [judgements.stands(event.number) for event in events],
            judgements.judged(),
        )

    stepwise, before = Judgements(), []
    for place in range(0, 60, 4):
        before.append((stepwise, told(stepwise)))
        stepwise = stepwise.extended(events[place : place + 4])
        assert told(stepwise) == told(Judgements(events[: place + 4]))
    assert all(told(earlier) == was for earlier, was in before)


def test_taking_one_action_back_twice_changes_nothing_more(store: VerdictStore) -> None:
    first = store.add(verdict())
    store.add(undo(first.number))
    store.add(undo(first.number))
    assert Judgements(store.events()).judged() == []
