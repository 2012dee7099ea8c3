from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from despur.errors import DataError
from despur.review.events import VERDICTS, Action, now
from despur.review.exchange import (
    Imported,
    Line,
    guarded,
    import_verdicts,
    lines_of,
    read_verdicts,
    unguarded,
    write_verdicts,
)
from despur.review.judgements import Judgements
from despur.review.store import VerdictStore

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
names = texts.filter(lambda text: text.strip() == text)


@st.composite
def some_lines(draw: st.DrawFn) -> list[Line]:
    about = draw(st.lists(st.tuples(texts, texts, names), max_size=4, unique=True))
    return [
        Line(
            class_name=class_name,
            attribute=attribute,
            who=who,
            when=NOON + timedelta(microseconds=draw(st.integers(0, 10**12))),
            **draw(
                st.one_of(
                    st.fixed_dictionaries({"verdict": st.sampled_from(VERDICTS), "note": names}),
                    st.fixed_dictionaries({"image": texts}),
                )
            ),
        )
        for class_name, attribute, who in about
    ]


@pytest.mark.parametrize("name", ["verdicts.csv", "verdicts.yaml"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(lines=some_lines())
def test_a_file_gives_back_what_was_written_whatever_the_text(name: str, lines: list[Line], tmp_path: Path) -> None:
    write_verdicts(tmp_path / name, lines)
    assert read_verdicts(tmp_path / name) == lines


@given(st.text(st.sampled_from("'=+-@a\t"), max_size=6))
def test_no_cell_starts_as_a_formula_and_guarding_can_be_undone(cell: str) -> None:
    assert not guarded(cell).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unguarded(guarded(cell)) == cell


def judged(store: VerdictStore, who: str, verdict: str, at: datetime = NOON) -> None:
    store.add(
        Action(kind="verdict", who=who, at=at, class_name="eraser", attribute="hand", verdict=verdict, note="why")
    )


@pytest.fixture
def store(tmp_path: Path) -> VerdictStore:
    return VerdictStore(tmp_path / "verdicts.sqlite")


@pytest.mark.parametrize("name", ["verdicts.csv", "verdicts.yaml"])
def test_an_export_imported_elsewhere_is_the_same_and_imported_twice_changes_nothing(
    name: str, store: VerdictStore, tmp_path: Path
) -> None:
    judged(store, "Ada", "spurious")
    judged(store, "Bo", "unsure")
    store.add(Action(kind="strike", who="Bo", at=NOON, class_name="eraser", attribute="hand", image="7"))
    exported = lines_of(Judgements(store.events()))
    write_verdicts(tmp_path / name, exported)
    other = VerdictStore(tmp_path / "other.sqlite")
    assert import_verdicts(other, read_verdicts(tmp_path / name)) == Imported(3, 0)
    assert import_verdicts(other, read_verdicts(tmp_path / name)) == Imported(0, 3)
    assert lines_of(Judgements(other.events())) == exported


def test_an_older_line_does_not_replace_a_newer_verdict(store: VerdictStore) -> None:
    judged(store, "Ada", "healthy", NOON)
    old = Line(class_name="eraser", attribute="hand", verdict="spurious", who="Ada", when=NOON - timedelta(days=1))
    new = old.model_copy(update={"when": NOON + timedelta(days=1)})
    assert import_verdicts(store, [old]) == Imported(0, 1)
    assert import_verdicts(store, [new]) == Imported(1, 0)
    assert Judgements(store.events()).outcome(("eraser", "hand")) == "spurious"


def test_a_strike_that_was_taken_back_is_not_exported(store: VerdictStore) -> None:
    for struck in (True, False):
        store.add(
            Action(kind="strike", who="Bo", at=now(), class_name="eraser", attribute="hand", image="7", struck=struck)
        )
    assert lines_of(Judgements(store.events())) == []


GOOD = "class,attribute,verdict,who,when,note,image\neraser,hand,spurious,Ada,2026-05-04T12:00:00Z,,\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("v.csv", GOOD.replace("spurious", "splendid"), "line 2: verdict"),
        ("v.csv", GOOD.replace("2026-05-04T12:00:00Z", "yesterday"), "line 2: when"),
        ("v.csv", GOOD.replace(",who,", ",whom,"), "line 2: whom"),
        ("v.csv", GOOD.replace("note,image", "verdict,image"), "more than one column 'verdict'"),
        (
            "v.csv",
            GOOD + "eraser,hand,healthy,Ada,2026-05-04T12:00:00Z,,\n",
            "line 3 calls 'hand' healthy for 'eraser', and line 2 spurious; keep one",
        ),
        ("v.csv", GOOD + "eraser,hand\n", "line 3 has another number of cells than the first; give each line"),
        ("v.csv", GOOD.replace("Z,,", "Z,,image 7"), "line 2: a line has a verdict or an image, and not both"),
        ("v.csv", GOOD.replace("Ada", "A" * 200), "line 2: who"),
        ("v.csv", GOOD.replace("Ada", '"  "'), "line 2: who"),
        ("v.csv", GOOD.replace("2026-05-04T12:00:00Z", "0001-01-01T00:00:00+10:00"), "line 2: when"),
        ("v.csv", GOOD.replace("2026-05-04T12:00:00Z", "9999-12-31T23:59:59-10:00"), "line 2: when"),
        ("v.csv", GOOD + '"never closed', "not CSV"),
        ("v.csv", b"\xff\xfe\x00", "UTF-8"),
        ("v.yaml", "verdicts: !!python/object/apply:os.system ['true']", "not plain YAML"),
        ("v.yaml", "verdicts: 3", "no list"),
        ("v.yaml", "verdicts: [{class: eraser}]", "entry 1 of the list: attribute"),
        ("v.yaml", "[" * 1200, "not plain YAML"),
        ("v.yaml", "verdicts: []\nverdicts: []\n", "'verdicts' is given twice, in lines 1 and 2"),
        ("v.txt", GOOD, ".csv or .yaml"),
    ],
)
def test_a_file_that_means_nothing_is_refused_with_its_place(
    name: str, content: str | bytes, said: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as refused:
        read_verdicts(file)
    assert said in str(refused.value)
    assert str(file) in str(refused.value)


def test_a_moment_without_a_zone_is_utc_wherever_the_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "v.csv"
    file.write_text(GOOD.replace("12:00:00Z", "12:00:00"))
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        (line,) = read_verdicts(file)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert line.when == NOON


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mine.csv", "class,attribute,verdict\nwaterbird,water,spurious\n"),
        ("mine.yaml", "verdicts: [{class: waterbird, attribute: water, verdict: spurious}]\n"),
    ],
)
def test_a_file_written_by_hand_needs_no_name_and_no_moment(
    name: str, text: str, store: VerdictStore, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_text(text)
    (line,) = read_verdicts(file)
    assert line.who == name
    assert import_verdicts(store, [line]).added == 1
    assert import_verdicts(store, read_verdicts(file)).added == 0
    file.write_text(text.replace("spurious", "healthy"))
    later = time.time() + 5
    os.utime(file, (later, later))
    assert import_verdicts(store, read_verdicts(file)).added == 1
    assert Judgements(store.events()).outcome(("waterbird", "water")) == "healthy"


@pytest.mark.parametrize("changed", [-5.0, 0.0, 4e9, 1e15])
def test_a_file_of_any_age_is_written_by_hand_before_now(changed: float, store: VerdictStore, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("class,attribute,verdict\nwaterbird,water,spurious\n")
    os.utime(file, (changed, changed))
    (line,) = read_verdicts(file)
    assert datetime(1970, 1, 1, tzinfo=UTC) <= line.when <= datetime.now(UTC)
    import_verdicts(store, [line])
    file.write_text("class,attribute,verdict\nwaterbird,water,healthy\n")
    assert import_verdicts(store, read_verdicts(file)).added == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv"):
        read_verdicts(tmp_path / "gone.csv")
