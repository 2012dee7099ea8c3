"""What a dataset's spec says: ``KIND:PLACE,option=value,...``, every option known to its kind or refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from despur.data.paths import absolute
from despur.errors import DataError, nearest
from despur.workspace import at_home

OPTION = re.compile(r",(?=[a-z]+=)")
"""Where an option starts. A comma that no ``word=`` follows belongs to what stands before it."""


@dataclass(frozen=True)
class Spec:
    """A spec taken apart: ``imagenet:DIR,classes=680,898`` has the place ``DIR`` and one option.

    Attributes:
        text: as the user wrote it, for messages.
        kind: what stands before the first colon.
        place: a path or a name.
        options: what follows, by name.
    """

    text: str
    kind: str
    place: str
    options: dict[str, str] = field(default_factory=dict[str, str])

    def check(self, known: Iterable[str]) -> None:
        """Refuse an option that means nothing for this kind, rather than pass over it.

        Raises:
            DataError: naming the first such option.
        """
        allowed = sorted(known)
        for name in self.options:
            if name not in allowed:
                advice = nearest(name, allowed) if allowed else f"{self.kind}: takes no options"
                raise DataError(f"there is no option {name!r}", where=self.text, now=advice)

    def words(self, name: str) -> list[str]:
        """An option's value as a list: "680, 898" gives ["680", "898"]; empty where the option is not given."""
        return [word.strip() for word in self.options.get(name, "").split(",") if word.strip()]

    def path(self, name: str) -> Path | None:
        """An option's value as a path, relative to the dataset's place; None where the option is not given."""
        value = self.options.get(name)
        return None if value is None else absolute(absolute(Path(self.place)) / at_home(value))

    def count(self, name: str, default: int) -> int:
        """An option's value as a whole number of 0 or more.

        Raises:
            DataError: it is none.
        """
        value = self.options.get(name, str(default))
        if not value.isdecimal():
            raise DataError(f"{name} is {value!r}", where=self.text, now="give a whole number")
        return int(value)


def parse_spec(text: str) -> Spec:
    """Take a spec apart.

    Raises:
        DataError: an option is given twice or has no value.
    """
    kind, _, tail = text.partition(":")
    place, *parts = OPTION.split(tail)
    options: dict[str, str] = {}
    for part in parts:
        name, _, value = part.partition("=")
        if name in options:
            raise DataError(f"the option {name!r} is given twice", where=text, now="give it once")
        if not value.strip():
            raise DataError(f"the option {name!r} has no value", where=text, now=f"write {name}=VALUE")
        options[name] = value.strip()
    return Spec(text, kind, place, options)
