"""One open review: the study, the history folded up to now, and what makes either of them out of date."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from threading import RLock

from PIL import Image

from despur.errors import SettingsError, WorkspaceError
from despur.review.events import LONGEST_NAME, Action, Event, now, person_name
from despur.review.judgements import Judgements
from despur.review.pictures import Thumbnails
from despur.review.store import VERDICTS, VerdictStore
from despur.review.study import Study, read_study
from despur.workspace import Workspace

Maps = Callable[[int], Image.Image]
"""From an image's row to the photograph with the explanation map of its own class laid over it."""


class StaleError(WorkspaceError):
    """The ranking was computed from something else than what the workspace holds now."""


class Session:
    """What every request works on. Requests run in threads: the history is folded by one at a time.

    Attributes:
        form_token: what every form of ours holds; another site's page cannot read it.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        name: str,
        is_current: Callable[[Workspace], bool] = lambda workspace: True,
        maps: Maps | None = None,
    ) -> None:
        """
        Args:
            name: who judges where a browser has not said otherwise; 1 to 80 characters besides spaces around them.
            is_current: whether the ranking follows from what the workspace holds.
            maps: draws explanation maps, where the caller can.

        Raises:
            SettingsError: the name is empty or too long.
            WorkspaceError: the verdicts cannot be opened.
        """
        judge = person_name(name)
        if judge is None:
            raise SettingsError(
                f"{name!r} is no name to judge under",
                where="review",
                now=f"choose a --name of 1 to {LONGEST_NAME} characters",
            )
        self.workspace, self.name, self.maps = workspace, judge, maps
        self.form_token = secrets.token_urlsafe(24)
        self.store = VerdictStore(workspace.path(VERDICTS))
        self.thumbnails = Thumbnails(workspace.path("thumbnails"))
        self._is_current = is_current
        self._lock = RLock()
        self._judgements = Judgements()
        self._study: Study | None = None
        self._seen: object = None

    def judgements(self) -> Judgements:
        """The history with what any process has added since the last request."""
        with self._lock:
            news = self.store.events(after=self._judgements.last)
            if news:
                # A new one: other requests may be reading the old one.
                self._judgements = self._judgements.extended(news)
            return self._judgements

    def study(self) -> Study:
        """The study; read again where the workspace has changed.

        Raises:
            StaleError: the ranking does not follow from what the workspace holds now.
            WorkspaceError: it cannot be read.
        """
        with self._lock:
            file = self.workspace.path("workspace.json")
            try:
                found = file.stat()
            except OSError as error:
                raise WorkspaceError(
                    "the workspace is gone", where=self.workspace.root, now="put it back, or stop this server"
                ) from error
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if self._study is None or seen != self._seen:
                self._study = None
                if self.workspace.record("rank") is not None and not self._is_current(self.workspace):
                    raise StaleError(
                        "the ranking is older than what it was computed from",
                        where=self.workspace.root,
                        now=f"run: despur rank -w {self.workspace.root}",
                    )
                self._study, self._seen = read_study(self.workspace), seen
            return self._study

    def add(self, action: Action, *, request: str | None = None) -> Event:
        """Write an action down; returns it with its place in the history."""
        return self.store.add(action, request=request)

    def undo(self, who: str, *, request: str | None = None) -> Event | None:
        """Take back that person's newest standing action.

        Returns the undo, which is about the same pair; None where there is nothing to take back.
        """
        known = self.judgements()

        def choose() -> Action | None:
            # Others wait meanwhile: only what came since is read.
            last = known.extended(self.store.events(after=known.last)).undoable(who)
            if last is None:
                return None
            return Action(
                kind="undo",
                who=who,
                at=now(),
                class_name=last.class_name,
                attribute=last.attribute,
                undoes=last.number,
            )

        return self.store.decide(choose, request=request)
