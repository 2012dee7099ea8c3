"""The verdict store: a history that only grows, in one SQLite file that several people and processes write."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

from pydantic import ValidationError

from despur.errors import WorkspaceError
from despur.review.events import Action, Event

VERDICTS = "verdicts.sqlite"
"""Its name in a workspace."""

PATIENCE = 60.0
"""Seconds to wait for another writer; a commit takes milliseconds."""

# STRICT tables and the triggers hold whoever writes here to what this module writes: rows are added, never changed.
TABLES = """
CREATE TABLE IF NOT EXISTS history (
    number INTEGER PRIMARY KEY,
    action TEXT NOT NULL,
    request TEXT UNIQUE
) STRICT;
CREATE TRIGGER IF NOT EXISTS history_is_not_rewritten BEFORE UPDATE ON history
BEGIN SELECT RAISE(ABORT, 'the history is never changed'); END;
CREATE TRIGGER IF NOT EXISTS history_is_not_shortened BEFORE DELETE ON history
BEGIN SELECT RAISE(ABORT, 'the history is never shortened'); END;
"""


class StoreBusyError(WorkspaceError):
    """Another process keeps the verdict store locked."""


class VerdictStore:
    """The history of a workspace's verdicts.

    An action is on the disk before :meth:`add` returns: SQLite syncs at every commit. It writes ahead into another file
    (``verdicts.sqlite-wal``, folded in when the last one closes the store): one sync a verdict and not three, so that
    many people wait little for each other.

    Threads share one store; processes open their own.
    """

    def __init__(self, path: Path, *, patience: float = PATIENCE) -> None:
        """Open the file, or make it.

        Args:
            patience: seconds to wait for another process before :class:`StoreBusyError`.

        Raises:
            WorkspaceError: it cannot be written, or is no verdict store.
        """
        self.path = path
        self._lock = RLock()
        try:
            self._connection = sqlite3.connect(
                path, timeout=patience, isolation_level=None, check_same_thread=False, cached_statements=16
            )
        except sqlite3.Error as error:
            raise self._problem(error) from error
        with self._explained():
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA trusted_schema = OFF")
            known = self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'history'").fetchone()
            if known is None:
                self._connection.executescript(TABLES)
        self._opened = self._identity()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _identity(self) -> tuple[int, int] | None:
        """Which file lies at the path; None: none does."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _check_place(self) -> None:
        """Refuse to go on with a file that is no longer at its place: what it is told would be gone with it."""
        if self._identity() != self._opened:
            raise WorkspaceError(
                "the verdicts were moved or replaced while they were open",
                where=self.path,
                now="start the command again",
            )

    def _problem(self, error: sqlite3.Error) -> WorkspaceError:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreBusyError(
                "another process keeps the verdicts locked", where=self.path, now="wait for it, or stop it"
            )
        return WorkspaceError(
            f"the verdicts cannot be read or written ({error})",
            where=self.path,
            now="check who owns the file and the room on its disk",
        )

    @contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._problem(error) from error

    @contextmanager
    def _writing(self) -> Generator[None]:
        """Be the only writer, of all threads and processes; everything in the block is kept, or nothing."""
        with self._lock, self._explained():
            self._check_place()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def add(self, action: Action, *, request: str | None = None) -> Event:
        """Write one action at the end of the history; it survives whatever happens after this returns.

        Args:
            request: a name for the wish to do this; a second action under the same name is the first one, sent again
                (a double click, a lost answer), and changes nothing.
        """
        with self._writing():
            return self._answered(request) or self._append(action, request)

    def decide(self, choose: Callable[[], Action | None], *, request: str | None = None) -> Event | None:
        """Write the action that ``choose`` names while nobody else writes; it may read the history to choose.

        Args:
            choose: names the action, or None: there is nothing to write.
            request: as in :meth:`add`.
        """
        with self._writing():
            event = self._answered(request)
            if event is not None:
                return event
            action = choose()
            return None if action is None else self._append(action, request)

    def add_all(self, choose: Callable[[], list[Action]]) -> list[Event]:
        """Write the actions that ``choose`` names while nobody else writes: all of them, or none."""
        with self._writing():
            return [self._append(action, None) for action in choose()]

    def _answered(self, request: str | None) -> Event | None:
        """The event that an earlier action under this name became."""
        if request is None:
            return None
        row = self._connection.execute("SELECT number, action FROM history WHERE request = ?", (request,)).fetchone()
        return None if row is None else self._event(*row)

    def _append(self, action: Action, request: str | None) -> Event:
        text = action.model_dump_json(exclude_defaults=True)
        (last,) = self._connection.execute("SELECT coalesce(max(number), 0) FROM history").fetchone()
        self._connection.execute("INSERT INTO history VALUES (?, ?, ?)", (last + 1, text, request))
        return self._event(last + 1, text)

    def events(self, after: int = 0) -> list[Event]:
        """The history in order, from the event that follows number ``after``."""
        with self._lock, self._explained():
            self._check_place()
            rows = self._connection.execute(
                "SELECT number, action FROM history WHERE number > ? ORDER BY number", (after,)
            ).fetchall()
        return [self._event(*row) for row in rows]

    def _event(self, number: int, text: str) -> Event:
        try:
            action = Action.model_validate_json(text)
        except ValidationError as error:
            raise WorkspaceError(
                f"event {number} of the history is none that this despur knows",
                where=self.path,
                now="open it with the despur that wrote it",
            ) from error
        return Event(number=number, **action.model_dump())
