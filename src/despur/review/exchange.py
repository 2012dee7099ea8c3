"""Verdicts as a file for git: CSV or YAML out, and either one back in, checked line by line."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from despur.data.examples import from_arrow
from despur.errors import DataError, nearest
from despur.review.events import LONGEST_NAME, Action, Moment, Name, Note, Text, Verdict, now
from despur.review.judgements import Judgements
from despur.review.store import VERDICTS, VerdictStore
from despur.workspace import PlainYamlError, Workspace, parse_yaml, read_parquet, write_whole

CLASS = "class"
"""The column of ``Line.class_name``; Python keeps the word for itself."""

COLUMNS: tuple[str, ...] = (CLASS, "attribute", "verdict", "who", "when", "note", "image")

LARGEST_FILE = 64 << 20
"""Bytes; half a million verdicts take less."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell starts that a spreadsheet would run."""


class Line(BaseModel):
    """One line of a file of verdicts.

    Attributes:
        verdict: on the pair; absent in a line about one image.
        image: id of an image that the detector is wrong about; absent in a line about the pair.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_name: Text = Field(min_length=1)
    attribute: Text = Field(min_length=1)
    verdict: Verdict | None = None
    who: Name
    when: Moment
    note: Note = ""
    image: Text | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Line:
        if (self.verdict is None) == (self.image is None):
            raise ValueError("a line has a verdict or an image, and not both")
        return self

    def action(self) -> Action:
        """The action that the line tells of."""
        return Action(
            kind="strike" if self.verdict is None else "verdict",
            who=self.who,
            at=self.when,
            class_name=self.class_name,
            attribute=self.attribute,
            verdict=self.verdict,
            note=self.note,
            image=self.image,
        )


def lines_of(judgements: Judgements) -> list[Line]:
    """What stands now, ordered by class, attribute and person, so that two versions of a file compare line by line."""
    verdicts = [event for pair in judgements.judged() for event in judgements.by_person(pair).values()]
    strikes = [event for pair in judgements.struck_pairs() for event in judgements.struck(pair).values()]
    lines = [
        Line(
            class_name=event.class_name,
            attribute=event.attribute,
            verdict=event.verdict,
            who=event.who,
            when=event.at,
            note=event.note,
            image=event.image,
        )
        for event in (*verdicts, *strikes)
    ]
    return sorted(lines, key=lambda line: (line.class_name, line.attribute, line.image or "", line.who))


def _plain(line: Line) -> dict[str, str]:
    """A line as text by column."""
    found = {CLASS if name == "class_name" else name: value for name, value in line.model_dump(mode="json").items()}
    return {name: found[name] or "" for name in COLUMNS}


def write_verdicts(path: Path, lines: Sequence[Line]) -> None:
    """Write a file, whole or not at all; its ending (.csv, .yaml, .yml) says how.

    Raises:
        DataError: it ends otherwise.
        WorkspaceError: it cannot be written.
    """
    text = _to_csv(lines) if _is_csv(path) else _to_yaml(lines)
    with write_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def _is_csv(path: Path) -> bool:
    ending = path.suffix.lower()
    if ending not in (".csv", ".yaml", ".yml"):
        raise DataError("its name does not say what it is", where=path, now="end it with .csv or .yaml")
    return ending == ".csv"


def _to_csv(lines: Sequence[Line]) -> str:
    """Comma-separated, with an apostrophe before what a spreadsheet would take for a formula."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    for line in lines:
        writer.writerow({name: guarded(cell) for name, cell in _plain(line).items()})
    return buffer.getvalue()


def guarded(cell: str) -> str:
    """A cell that no spreadsheet runs; :func:`unguarded` is the inverse."""
    return f"'{cell}" if cell.lstrip("'").startswith(FORMULA) else cell


def unguarded(cell: str) -> str:
    """A cell as it was before it was guarded against being read as a formula."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA) else cell


class _Escaping(yaml.SafeDumper):
    """Writes what cannot be printed as escapes; YAML would read some of it back as line breaks."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = None if text.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Escaping.add_representer(str, _Escaping.represent_text)


def _to_yaml(lines: Sequence[Line]) -> str:
    plain = [{name: cell for name, cell in _plain(line).items() if cell} for line in lines]
    return yaml.dump({"verdicts": plain}, Dumper=_Escaping, allow_unicode=True, sort_keys=False, width=10_000)


def read_verdicts(path: Path) -> list[Line]:
    """The lines of a file.

    One that a person wrote may leave out ``who`` and ``when``: they are the file's name, and when it was changed last;
    or now, where its clock was ahead, so that the next change is the newer one.

    Raises:
        DataError: it is missing, enormous, or a line is not what a line can be, or contradicts another of the same
            person and moment; the line is named.
    """
    as_csv = _is_csv(path)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DataError(f"it is larger than {LARGEST_FILE >> 20} MB", where=path, now="is it a file of verdicts?")
        written = datetime.fromtimestamp(min(max(path.stat().st_mtime, 0), now().timestamp()), tz=UTC)
        # Untranslated: a note may hold line breaks of its own.
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except OSError as error:
        raise DataError(f"it cannot be read ({error.strerror})", where=path, now="name a file of verdicts") from error
    except UnicodeDecodeError as error:
        raise DataError("it is not UTF-8", where=path, now="save it as UTF-8") from error
    rows = _csv_rows(path, text) if as_csv else _yaml_rows(path, text)
    author = {"who": path.name[:LONGEST_NAME], "when": written}
    lines = [_checked(path, place, {**author, **row}) for place, row in rows]
    _check_agreement(path, [place for place, _ in rows], lines)
    return lines


def _check_agreement(path: Path, places: Sequence[str], lines: Sequence[Line]) -> None:
    """Refuse two verdicts of one person on one pair at one moment that differ: neither is the newer one."""
    said: dict[tuple[str, str, str, Moment], tuple[str, Line]] = {}
    for place, line in zip(places, lines, strict=True):
        if line.verdict is None:
            continue
        first, other = said.setdefault((line.class_name, line.attribute, line.who, line.when), (place, line))
        if other.verdict != line.verdict:
            raise DataError(
                f"{place} calls {line.attribute!r} {line.verdict} for {line.class_name!r}, and {first} {other.verdict}",
                where=path,
                now="keep one of them",
            )


def _csv_rows(path: Path, text: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Each row by column, without its empty cells, and the line that it ends in."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        header = reader.fieldnames or ()
        expected = f"expected columns: {', '.join(COLUMNS)}"
        missing = [name for name in COLUMNS[:2] if name not in header]
        if missing:
            raise DataError(f"it has no column {missing[0]!r}", where=path, now=expected)
        twice = [name for name, count in Counter(header).items() if count > 1]
        if twice:
            raise DataError(f"it has more than one column {twice[0]!r}", where=path, now=expected)
        rows: list[tuple[str, Mapping[str, Any]]] = []
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    f"line {reader.line_num} has another number of cells than the first",
                    where=path,
                    now="give each line a cell for every column",
                )
            cells = {name: unguarded(cell) for name, cell in row.items() if cell != ""}
            rows.append((f"line {reader.line_num}", cells))
    except csv.Error as error:
        raise DataError(f"it is not CSV ({error})", where=path, now="mend or export it again") from error
    return rows


def _yaml_rows(path: Path, text: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Each entry of the list, and its place in it."""
    try:
        content = parse_yaml(text)
    except PlainYamlError as error:
        raise DataError(f"it is not plain YAML ({error})", where=path, now="mend or export it again") from error
    found = content.get("verdicts") if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise DataError("it has no list of verdicts", where=path, now="expected verdicts: [{class: ..., ...}]")
    return [(f"entry {number} of the list", row) for number, row in enumerate(found, start=1)]


def _checked(path: Path, place: str, row: Mapping[str, Any]) -> Line:
    try:
        return Line.model_validate({"class_name" if name == CLASS else name: cell for name, cell in row.items()})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(CLASS if part == "class_name" else str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        what = f"{name}: {message}" if name else message
        raise DataError(f"{place}: {what}", where=path, now="mend it there") from error


@dataclass(frozen=True)
class Imported:
    """What an import did: lines taken in, and lines passed over because the store has the same or something newer."""

    added: int
    passed_over: int


def import_verdicts(store: VerdictStore, lines: Sequence[Line]) -> Imported:
    """Add a file's lines to the history, all of them or none, each with its own name and moment.

    A line that is no newer than what its person has said on that pair (or anyone on that image) is passed over, so that
    importing a file twice, or one's own export, changes nothing.
    """

    def news() -> list[Action]:
        judgements = Judgements(store.events())
        latest: dict[tuple[str, ...], Moment] = {}
        for event in judgements.events:
            if event.kind != "undo" and judgements.stands(event.number):
                topic = _topic(event)
                latest[topic] = max(event.at, latest.get(topic, event.at))
        fresh: list[Action] = []
        for action in sorted((line.action() for line in lines), key=lambda action: action.at):
            known = latest.get(_topic(action))
            if known is None or action.at > known:
                latest[_topic(action)] = action.at
                fresh.append(action)
        return fresh

    added = store.add_all(news)
    return Imported(len(added), len(lines) - len(added))


def _topic(action: Action) -> tuple[str, ...]:
    """What an action is about: a person's verdict on a pair, or an image of a pair."""
    return (
        (*action.pair, "verdict", action.who)
        if action.kind == "verdict"
        else (*action.pair, "image", action.image or "")
    )


def bring_verdicts(workspace: Workspace, file: Path) -> Imported:
    """Add a file's verdicts to a workspace's history; nothing where one is of a class that its dataset has not.

    Raises:
        DataError: the file is not one of verdicts, or a line is on no class.
    """
    lines = read_verdicts(file)
    examples = workspace.path("examples.parquet")
    if examples.exists():
        classes = from_arrow(read_parquet(examples)).classes
        for line in lines:
            if line.class_name not in classes:
                raise DataError(
                    f"a verdict is on {line.class_name!r}, which is no class",
                    where=file,
                    now=nearest(line.class_name, classes),
                )
    store = VerdictStore(workspace.path(VERDICTS))
    try:
        return import_verdicts(store, lines)
    finally:
        store.close()
