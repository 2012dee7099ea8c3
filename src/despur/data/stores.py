"""Files in an object store (``s3://``, ``gs://``, ``memory://``, ...), reached through fsspec.

A path into a store is a :class:`Path` whose first part is the store's name: ``s3:/bucket/photographs/1.jpg``. So it
joins, compares and travels as any other; only who opens it must know, which is :func:`open_binary`.
"""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from despur.errors import DataError

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", flags=re.DOTALL)
"""A path that holds a URL has lost one of its slashes."""
_FIRST = re.compile(r"[a-z][a-z0-9+.-]+:")
_FOLDERS = ("file:", "local:", "memory:")
"""Stores that have folders as a disk has, and want a third slash in a URL."""

OF_THIS_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What goes wrong here, and not in the store, while a file is fetched."""


def stored_root(url: str) -> Path:
    """The folder that a URL names.

    Raises:
        DataError: it is no URL, or this machine cannot read such a store.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise DataError(f"{url!r} is no address of a store", where=url, now="write it as s3://BUCKET/FOLDER")
    path = Path(f"{found[1]}:", *(part for part in found[2].split("/") if part))
    _filesystem(path)
    return path


def is_stored(path: Path) -> bool:
    """Whether a path leads into a store."""
    return not path.is_absolute() and bool(path.parts) and _FIRST.fullmatch(path.parts[0]) is not None


def url_of(path: Path) -> str:
    """A path into a store as the URL that it came from."""
    slashes = ":///" if path.parts[0] in _FOLDERS else "://"
    return path.parts[0][:-1] + slashes + "/".join(path.parts[1:])


def anywhere(path: Path) -> str:
    """A path as another process finds it, whatever folder it works in."""
    return str(path) if is_stored(path) else str(path.absolute())


def exists(path: Path) -> bool:
    """Whether there is such a file, here or in its store.

    Raises:
        DataError: the store cannot be asked.
    """
    if not is_stored(path):
        return path.exists()
    with _asking(path):
        return bool(_filesystem(path).exists(url_of(path)))


def files_below(folder: Path) -> list[str]:
    """Paths of all files below a folder of a store, relative to it, sorted.

    Raises:
        DataError: the store cannot be asked.
    """
    with _asking(folder):
        filesystem = _filesystem(folder)
        top = filesystem._strip_protocol(url_of(folder)).rstrip("/")
        return sorted(name.removeprefix(top).lstrip("/") for name in filesystem.find(url_of(folder)))


def open_binary(path: Path) -> BinaryIO:
    """A file to read, here or in its store; from there it comes whole, so that nothing is cut short later.

    Raises:
        OSError: it is not there, or may not be read.
        DataError: its store cannot be reached: no fault of the image's, which must not be passed over for it.
    """
    if not is_stored(path):
        return path.open("rb")
    with _asking(path, passed=(FileNotFoundError, PermissionError, IsADirectoryError)):
        return io.BytesIO(_filesystem(path).cat_file(url_of(path)))


def fetch_file(path: Path, to: Path) -> None:
    """Copy a file of a store to this machine, over ``to``.

    Raises:
        DataError: it is not there, or its store cannot be read.
        OSError: this machine's disk is full or may not be written.
    """
    with _asking(path):
        _filesystem(path).get_file(url_of(path), str(to))


def send_file(file: Path, to: Path) -> None:
    """Copy a file of this machine into a store, over what is there.

    Raises:
        DataError: the store cannot be written.
    """
    with _asking(to, "written"):
        filesystem = _filesystem(to)
        if to.parts[0] in _FOLDERS:  # object stores have none: a key may hold any slashes
            filesystem.makedirs(url_of(to.parent), exist_ok=True)
        filesystem.put_file(str(file), url_of(to))


def _filesystem(path: Path) -> Any:
    """What reads a store; the host and the user that a URL may name (``sftp://USER@HOST/...``) are its own."""
    import fsspec

    protocol = path.parts[0][:-1]
    try:
        kind = fsspec.get_filesystem_class(protocol)
        return kind(**kind._get_kwargs_from_urls(url_of(path)))
    except Exception as error:
        raise DataError(
            f"{protocol}:// cannot be reached from here ({_reason(error)})",
            where=url_of(path),
            now="check the address, and install what is missing",
        ) from error


@contextmanager
def _asking(path: Path, done: str = "read", passed: tuple[type[OSError], ...] = ()) -> Generator[None]:
    """Tell of whatever goes wrong between a store and this machine; ``passed`` is for the caller to judge.

    Stores' packages have errors of their own, few of them an OSError: a server that hangs up, a name without a
    password, a message cut short.
    """
    try:
        yield
    except (DataError, *passed):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in OF_THIS_DISK and done == "read":
            raise
        raise DataError(
            f"the store cannot be {done} ({_reason(error)})",
            where=url_of(path),
            now="check the network and who you are to it, and run it again: it goes on where it was stopped",
        ) from error


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
