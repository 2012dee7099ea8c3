"""Whether a hub can give us a file, asked quickly."""

from __future__ import annotations

from urllib.error import HTTPError
from urllib.request import Request, urlopen

from huggingface_hub import constants, try_to_load_from_cache

PATIENCE = 10.0
"""Seconds that a hub may take to say that it is there."""


def address(repository: str, file: str) -> str:
    """Where a file of a Hugging Face repository can be fetched with any browser."""
    return f"{constants.ENDPOINT}/{repository}/resolve/main/{file}"


def expect_files(repository: str, *files: str) -> None:
    """Return if one of the files is in the hub's cache, or the hub answers at all.

    The hub's own client tries for most of a minute before it gives up, and warns every time. Like that client, this
    asks nothing where ``HF_HUB_OFFLINE`` is set.

    Raises:
        OSError: no file is here and nothing answers, or may be asked.
    """
    if any(isinstance(try_to_load_from_cache(repository, file), str) for file in files):
        return
    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    try:
        urlopen(Request(address(repository, files[0]), method="HEAD"), timeout=PATIENCE).close()
    except HTTPError:
        return  # it answers: "not found" and "not allowed" are its client's to tell
