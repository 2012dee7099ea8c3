"""The workspace folder: what it is about, where things lie in it, and who may write."""

from __future__ import annotations

import errno
import os
import platform
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

from filelock import BaseFileLock, FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from despur.errors import WorkspaceError
from despur.workspace.files import at_home, cannot_write, read_json, remove_partials, write_json

SCHEMA_VERSION = 1
READ_BY = "0.1"
"""The first despur that reads SCHEMA_VERSION; written into every workspace, so that an older one can name it."""

FOLDERS = ("features", "runs", "retained")
"""What stages write into besides the workspace's own folder."""

OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""What a disk says that is full, may not be written, or fails."""


class StageRecord(BaseModel):
    """What a finished stage was computed from.

    Attributes:
        settings: the stage's settings, as its pydantic model dumps them.
        inputs: fingerprint of everything that the stage read.
        versions: as :func:`versions` gives them.
        machine: what it was computed on, by words such as "device" and "threads"; empty where an earlier despur ran it.
        seed: what it drew from; None: it draws nothing.
        seconds: how long it took.
        outputs: checksum of every file that it wrote, by place in the workspace; empty where an earlier despur ran it.
        weights: fingerprint of the model that it ran, for those who load the model again; empty where it ran none, or
            an earlier despur ran it.
        effort: sizes of batches and the like, which may move a number's last bit and make nothing stale; empty where
            there are none, or an earlier despur ran it.
    """

    model_config = ConfigDict(frozen=True)

    settings: dict[str, Any]
    inputs: str
    versions: dict[str, str]
    seed: int | None
    seconds: float
    outputs: dict[str, str] = {}
    machine: dict[str, str] = {}
    weights: str = ""
    effort: dict[str, Any] = {}


def _place(root: str | Path) -> Path:
    """Where a workspace lies, whatever folder the process works in.

    Raises:
        WorkspaceError: it is no path that files can be written under: the libraries that write tables take only UTF-8.
    """
    try:
        place = at_home(root).resolve()
        str(place).encode()
    except (ValueError, RuntimeError) as error:
        raise WorkspaceError(
            "its path is not UTF-8, or leads nowhere", where=repr(str(root)), now="name another folder"
        ) from error
    return place


class About(TypedDict):
    """What ``workspace.json`` says."""

    schema: int
    dataset: str | None
    model: str | None
    stages: dict[str, StageRecord]


@dataclass(frozen=True)
class Workspace:
    """A folder that holds one study: what was found, decided, trained and measured.

    Whoever writes into it holds its lock; readers need none, because files appear whole.
    """

    root: Path

    @classmethod
    def create(
        cls,
        root: str | Path,
        *,
        dataset: str | None = None,
        model: str | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> Workspace:
        """Make the folder and its ``workspace.json``, or open the workspace that is there; note the specs given.

        Args:
            on_wait: as in :meth:`lock`.

        Raises:
            WorkspaceError: the folder cannot be made, holds a workspace that :meth:`open` refuses, or is in use.
        """
        workspace = cls(_place(root))
        try:
            workspace.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = "a file is in its place" if isinstance(error, FileExistsError | NotADirectoryError) else error
            raise WorkspaceError(
                f"no workspace can be made there ({reason})", where=workspace.root, now="name another folder"
            ) from error
        with workspace.lock(on_wait=on_wait):
            if not workspace._file.exists():
                workspace._write({"schema": SCHEMA_VERSION, "dataset": dataset, "model": model, "stages": {}})
            workspace.describe(dataset=dataset, model=model)
        return workspace

    @classmethod
    def open(cls, root: str | Path) -> Workspace:
        """The workspace in a folder.

        Raises:
            WorkspaceError: there is none, it is damaged, or a newer despur wrote it.
        """
        workspace = cls(_place(root))
        try:
            found = workspace._file.is_file()
        except OSError as error:
            raise WorkspaceError(
                f"it cannot be looked into ({(error.strerror or str(error)).lower()})",
                where=workspace.root,
                now="check the path and who owns it",
            ) from error
        if not found:
            raise WorkspaceError(
                "there is no workspace here (no workspace.json)",
                where=workspace.root,
                now=f"make one with: despur embed DATASET --model MODEL -w {root}",
            )
        workspace.about()
        return workspace

    @property
    def _file(self) -> Path:
        return self.root / "workspace.json"

    @property
    def _lock_file(self) -> Path:
        return self.root / ".lock"

    @property
    def _holder_file(self) -> Path:
        return self.root / ".lock.holder"

    def path(self, *parts: str) -> Path:
        """A place in the workspace: ``path("runs", name, "metrics.json")``.

        Raises:
            WorkspaceError: the parts lead out of the workspace.
        """
        # By the letters alone: a user may well have linked features/ to a larger disk.
        place = Path(os.path.normpath(self.root.joinpath(*parts)))
        if not place.is_relative_to(self.root):
            raise WorkspaceError(
                f"{'/'.join(parts)} leads out of the workspace", where=self.root, now="use a plain name"
            )
        return place

    def about(self) -> About:
        """What ``workspace.json`` says.

        Raises:
            WorkspaceError: it is missing, damaged, or of a newer schema.
        """
        found = read_json(self._file)
        damaged = WorkspaceError(
            "it is damaged and does not describe a workspace",
            where=self._file,
            now="delete it; the next run computes every stage again",
        )
        if not isinstance(found, dict) or not isinstance(found.get("schema"), int):
            raise damaged
        if found["schema"] > SCHEMA_VERSION:
            raise WorkspaceError(
                f"its schema is {found['schema']}, and despur {READ_BY} reads no schema above {SCHEMA_VERSION}",
                where=self.root,
                now=f"open it with despur {found.get('read_by', 'of a later version')} or later",
            )
        try:
            stages = {name: StageRecord.model_validate(record) for name, record in found["stages"].items()}
            return {"schema": found["schema"], "dataset": found["dataset"], "model": found["model"], "stages": stages}
        except (KeyError, AttributeError, ValidationError) as error:
            raise damaged from error

    def _write(self, about: About) -> None:
        stages = {name: record.model_dump(mode="json") for name, record in about["stages"].items()}
        write_json(self._file, {"schema": SCHEMA_VERSION, "read_by": READ_BY, **about, "stages": stages})

    def describe(self, *, dataset: str | None = None, model: str | None = None) -> None:
        """Note what is studied; a spec that is None stays as it is."""
        with self.lock():
            about = self.about()
            new = cast(About, {**about, "dataset": dataset or about["dataset"], "model": model or about["model"]})
            if new != about:
                self._write(new)

    def record(self, stage: str) -> StageRecord | None:
        """What a stage was last computed from; None: it has not finished yet."""
        return self.about()["stages"].get(stage)

    def save_record(self, stage: str, record: StageRecord) -> None:
        """Note that a stage has finished; called after the stage's files are in place."""
        with self.lock():
            about = self.about()
            about["stages"][stage] = record
            self._write(about)

    def forget(self, stage: str) -> None:
        """Note that a stage's files are about to change; called before they do, so that half of them count as none."""
        with self.lock():
            about = self.about()
            if about["stages"].pop(stage, None) is not None:
                self._write(about)

    @contextmanager
    def lock(self, timeout: float = 600, on_wait: Callable[[], None] | None = None) -> Generator[None]:
        """Be the only process that writes here; may be entered again by whoever holds it.

        Args:
            timeout: seconds to wait for another process.
            on_wait: called once if another process has the workspace, before the wait.

        Raises:
            WorkspaceError: another process still has it after ``timeout``; its id is named. Or the disk is full,
                read-only or failing while the block runs.
        """
        # A singleton: a second Workspace of the same folder in this process enters the same lock instead of waiting
        # for itself.
        lock = FileLock(self._lock_file, is_singleton=True)
        outermost = not lock.is_locked
        self._acquire(lock, timeout, on_wait)
        try:
            if outermost:
                self._say_who_holds()
                for folder in (self.root, *self._linked()):
                    with suppress(PermissionError):  # another user's leavings hinder nobody
                        remove_partials(folder)  # nobody else writes now
            yield
        except OSError as error:
            # Any of a stage's reads and writes may meet it; a sentence for each call would say no more.
            if error.errno not in OF_THE_DISK:
                raise
            raise WorkspaceError(
                f"the disk refused ({(error.strerror or str(error)).lower()})",
                where=error.filename or self.root,
                now="make room or mend it; the same command goes on from there",
            ) from error
        finally:
            if outermost:
                with suppress(OSError):  # a disk that refuses has been told of already
                    self._holder_file.unlink(missing_ok=True)
            lock.release()

    def _linked(self) -> list[Path]:
        """Folders that lie on another disk, into which no search through the workspace goes."""
        folders = [self.path(name) for name in FOLDERS]
        return [folder for folder in folders if folder.is_symlink() and folder.is_dir()]

    def _acquire(self, lock: BaseFileLock, timeout: float, on_wait: Callable[[], None] | None) -> None:
        try:
            lock.acquire(timeout=0)
        except OSError as first:
            if not isinstance(first, Timeout):
                raise cannot_write(self.root, first) from first
            if on_wait is not None:
                on_wait()
            try:
                lock.acquire(timeout=timeout)
            except Timeout as error:
                raise WorkspaceError(
                    f"{self._holder() or 'another process'} has been using this workspace for over {timeout:g} seconds",
                    where=self.root,
                    now="wait for it, stop it, or use another workspace",
                ) from error

    def in_use_by(self) -> str | None:
        """Which process holds the lock now, as ``process 77 on HOST (COMMAND)``; None: none does."""
        who = self._holder()
        if who is None:
            return None
        try:
            # The name may have been left by a process that was killed: only the lock itself knows.
            with FileLock(self._lock_file, timeout=0):
                return None
        except Timeout:
            return who
        except OSError:
            return None  # nobody works where no lock can be made

    def _say_who_holds(self) -> None:
        command = Path(sys.argv[0]).name if sys.argv else "python"
        try:
            # What another user's killed process left may be deleted where it may not be written.
            self._holder_file.unlink(missing_ok=True)
            self._holder_file.write_text(f"process {os.getpid()} on {platform.node()} ({command})", encoding="utf-8")
        except OSError as error:
            if error.errno in OF_THE_DISK:
                raise
            raise cannot_write(self._holder_file, error) from error

    def _holder(self) -> str | None:
        """Who wrote down last that it holds the lock; None: it has let go since."""
        try:
            return self._holder_file.read_text(encoding="utf-8")
        except OSError:
            return None
