"""Every error a user can meet: one sentence that says what is wrong, where, and what to do now."""

from __future__ import annotations

from pathlib import Path


class DespurError(Exception):
    """A problem that the user can act on; the command line prints it without a traceback and exits with status 2.

    Args:
        what: what is wrong, as a clause ("metadata.csv has no column 'place'").
        where: the file, folder or spec that it was found in; printed first.
        now: what to do about it; printed last.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, now: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.now = now
        super().__init__(str(self))

    def __str__(self) -> str:
        place = "" if self.where is None else f"{self.where}: "
        advice = "" if self.now is None else f"; {self.now}"
        return f"{place}{self.what}{advice}"


class DataError(DespurError):
    """A dataset, an image folder or a table is not what its spec promises."""


class ModelError(DespurError):
    """A backbone cannot be built or its weights cannot be had."""


class SettingsError(DespurError):
    """An option or a study file holds a value that means nothing."""


class WorkspaceError(DespurError):
    """A workspace is missing, newer than this despur, in use, or damaged."""


class TrainingError(DespurError):
    """Training cannot start, or met a number that is not finite."""


LISTED = 40
"""Words that a hint lists at the most: a sentence of a thousand classes helps nobody."""


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """A hint that names the closest known word, or lists the known ones: ``did you mean 'vc'?``"""
    from difflib import get_close_matches

    if not known:
        return "there are none to choose from"
    close = get_close_matches(word, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    more = len(known) - LISTED
    return "choose from " + ", ".join(known[:LISTED]) + (f" and {more} more" if more > 0 else "")
