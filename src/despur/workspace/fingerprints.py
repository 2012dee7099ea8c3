"""What a result was computed from: digests of inputs, and the versions of what computed it."""

from __future__ import annotations

import hashlib
import json
import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel

PACKAGES = (
    "despur",
    "torch",
    "torchvision",
    "open_clip_torch",
    "transformers",
    "safetensors",
    "numpy",
    "Pillow",
    "pyarrow",
    "duckdb",
    "scipy",
)
"""What a stage's numbers may depend on."""


def _plain(value: object) -> object:
    """What JSON does not know, as what it does."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a {type(value).__name__} has no canonical form; turn it into plain values first")


def fingerprint(*parts: object) -> str:
    """64 hexadecimal digits over the parts: equal for equal parts, whatever order the keys of a dict came in.

    Args:
        parts: JSON values, pydantic models, paths and bytes, nested as needed. An int and the equal float differ.
    """
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        if isinstance(part, bytes):
            kind, content = b"bytes", part
        else:
            text = json.dumps(part, sort_keys=True, separators=(",", ":"), default=_plain)
            kind, content = b"json", text.encode()
        # The length keeps ("a", "bc") apart from ("ab", "c").
        digest.update(b"%s %d\n" % (kind, len(content)))
        digest.update(content)
    return digest.hexdigest()


def fingerprint_file(path: Path) -> str:
    """64 hexadecimal digits over a file's contents, whatever its name.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return fingerprint_stream(file)


def fingerprint_stream(file: BinaryIO) -> str:
    """The same over an open file, from where it stands."""
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()  # pyright: ignore[reportArgumentType]


def versions() -> dict[str, str]:
    """Version of Python and of every installed package that numbers may depend on; imports none of them."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
