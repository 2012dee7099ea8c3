"""What people do on the review page, as events that are only ever added."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

Verdict = Literal["spurious", "healthy", "unsure"]
VERDICTS: tuple[str, ...] = get_args(Verdict)

Kind = Literal["verdict", "strike", "undo"]

LONGEST_NAME = 80
LONGEST_NOTE = 2000


def _storable(text: str) -> str:
    """Text without null characters and lone surrogates, which no database and no UTF-8 file holds."""
    return text.replace("\0", "").encode("utf-8", errors="replace").decode("utf-8")


def _trimmed(text: str) -> str:
    """Text without white space around it, in lines that end as a browser counts them: in one character."""
    return text.replace("\r\n", "\n").strip()


def _in_utc(moment: datetime) -> datetime:
    """A moment in UTC; one without a zone is taken for UTC, so that a file means the same on every machine."""
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("it is before year 1 or after year 9999 in UTC") from error


Text = Annotated[str, AfterValidator(_storable)]
# Trimmed before it is measured: a name of spaces alone is none.
Trimmed = Annotated[Text, AfterValidator(_trimmed)]
Name = Annotated[Trimmed, Field(min_length=1, max_length=LONGEST_NAME)]
Note = Annotated[Trimmed, Field(max_length=LONGEST_NOTE)]
Moment = Annotated[datetime, AfterValidator(_in_utc)]


def person_name(text: str) -> str | None:
    """A person's name as events hold it, without spaces around it; None where the text is empty or too long for one."""
    try:
        return TypeAdapter(Name).validate_python(text)
    except ValidationError:
        return None


class Action(BaseModel):
    """One thing that a person did.

    Attributes:
        kind: ``verdict``: judged the pair; ``strike``: said of an image that the detector is wrong about the attribute
            in it (or, with ``struck`` false, that it is right after all); ``undo``: took an earlier action back.
        who: the person's name.
        at: when, in UTC.
        attribute: the phrase.
        class_name: the pair's class; of a strike, the class of the image.
        verdict, note: of a verdict.
        image, struck: of a strike; the image's id.
        undoes: of an undo, the number of the action that it takes back.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    who: Name
    at: Moment
    class_name: Text
    attribute: Text
    verdict: Verdict | None = None
    note: Note = ""
    image: Text | None = None
    struck: bool = True
    undoes: Annotated[int, Field(ge=1)] | None = None

    @property
    def pair(self) -> tuple[str, str]:
        """Class and attribute."""
        return self.class_name, self.attribute


class Event(Action):
    """An action in the history.

    Attributes:
        number: its place, from 1 without gaps.
    """

    number: Annotated[int, Field(ge=1)]


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)
