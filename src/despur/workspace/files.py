"""Files that appear whole or not at all, and damaged ones told in a sentence."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from despur.errors import WorkspaceError

if TYPE_CHECKING:
    import pyarrow as pa


def cannot_write(path: Path, error: OSError) -> WorkspaceError:
    """What to tell a user whose disk refused a write."""
    reason = (error.strerror or str(error)).lower()
    return WorkspaceError(f"it cannot be written ({reason})", where=path, now="make room there or choose another place")


def _sync(path: Path) -> None:
    """Ask the system to put a file, or the names in a folder, on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders and needs none of this
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


PARTIAL = ".*.????????.partial*"
"""Names of what is being written, and of the lock beside a folder that is."""

LOCK = ".lock"


@contextmanager
def write_whole(path: Path) -> Generator[Path]:
    """Write a file beside its place and move it there when it is complete.

    Yields the temporary file, empty, with the suffix of ``path`` (writers look at it). Left without an error, it is
    synced and renamed over ``path``; left with one, it is removed and ``path`` is as it was. Missing folders are made.

    Raises:
        WorkspaceError: the folder cannot be written, or ``path`` is one itself, or the disk is full.
    """
    if path.is_dir():
        raise cannot_write(path, IsADirectoryError(errno.EISDIR, "a folder of that name is there"))
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise cannot_write(path, error) from error
        raise


@contextmanager
def whole_folder(path: Path) -> Generator[Path]:
    """Write a folder beside its place and move it there when it is complete; nothing may be there but an empty one.

    Yields the temporary folder. What killed processes left half written for the same place is deleted first.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # others' leavings are no reason to write nothing
        remove_partials(path.parent, f".{escape(path.name)}.????????.partial*", below=False)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    lock = temporary.with_name(temporary.name + LOCK)
    with FileLock(lock):
        try:
            temporary.mkdir()
            yield temporary
            if path.exists():
                path.rmdir()
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            with suppress(OSError):  # Windows deletes no file that is open; it goes with the next sweep
                lock.unlink(missing_ok=True)


def remove_partials(folder: Path, names: str = PARTIAL, *, below: bool = True) -> None:
    """Delete what killed processes left half written in a folder; called where nobody else writes files into it.

    A folder that another process is writing, as an export does from another workspace, is left alone.

    Args:
        below: in the folders that it holds, too.

    Raises:
        OSError: something cannot be deleted.
    """
    for partial in list(folder.rglob(names) if below else folder.glob(names)):
        if partial.is_dir():
            lock = partial.with_name(partial.name + LOCK)
        elif partial.name.endswith(LOCK):
            lock = partial
        else:
            partial.unlink(missing_ok=True)
            continue
        if not partial.exists():
            continue  # went with its folder, or its lock did
        with suppress(Timeout), FileLock(lock, timeout=0):
            if partial.is_dir():
                shutil.rmtree(partial)
            lock.unlink(missing_ok=True)


def at_home(path: str | Path) -> Path:
    """A path with "~" worked out; one of a user whom the system does not know stays as it is, as in a shell."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as JSON, whole or not at all; NaN has no place in JSON and is a ValueError."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with write_whole(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet, whole or not at all; equal tables give equal bytes."""
    import pyarrow.parquet as pq

    with write_whole(path) as temporary:
        # Otherwise Parquet renames what is in a list, and the table that comes back has another schema.
        pq.write_table(table, temporary, compression="zstd", use_compliant_nested_type=False)


@contextmanager
def _explained(path: Path, kind: str, damage: tuple[type[Exception], ...]) -> Generator[None]:
    """Turn what goes wrong while ``path`` is read into one sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise WorkspaceError("it does not exist", where=path, now="run the stage that writes it") from error
    except PermissionError as error:
        raise WorkspaceError("it may not be read", where=path, now="check who owns it") from error
    except damage as error:
        raise WorkspaceError(
            f"it is damaged and does not read as {kind}", where=path, now="delete it and run the stage that writes it"
        ) from error


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        WorkspaceError: the file is missing or is not JSON.
    """
    with _explained(path, "JSON", (ValueError, RecursionError, OSError)):
        return json.loads(path.read_text(encoding="utf-8"))


def read_object(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """The object in a JSON file that must hold entries of these names.

    Raises:
        WorkspaceError: the file is missing, is not JSON, or holds something else.
    """
    value = read_json(path)
    missing = [name for name in names if not isinstance(value, dict) or name not in value]
    if missing:
        raise WorkspaceError(
            f"it holds no {missing[0]!r} and is not what despur wrote",
            where=path,
            now="delete it and run the stage that writes it",
        )
    return value


def read_parquet(path: Path) -> pa.Table:
    """The table in a Parquet file.

    Raises:
        WorkspaceError: the file is missing or is not Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Not pq.read_table: that reads "key=value" folders in the path as columns of the table.
    with _explained(path, "Parquet", (pa.ArrowException, ValueError, OSError)), pq.ParquetFile(path) as file:
        return file.read()
