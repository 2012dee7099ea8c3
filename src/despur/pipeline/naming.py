"""Specs as they are written into what goes to other people: without the folders of the author's machine."""

from __future__ import annotations

import re

from despur.data.specs import OPTION

_FROM_THE_ROOT = re.compile(r"(?:^|(?<=[=:/]))(?:[a-z][a-z0-9+.-]*://|~|/|[A-Za-z]:[\\/]).*$", re.DOTALL)
"""The part of a place or of an option that says where on a machine, or in which store, something lies."""


def without_folders(spec: str) -> str:
    """A dataset's or a model's spec in which every path from the root, or into a store, is its last name alone.

    ``waterbirds:/home/ann/birds`` becomes ``waterbirds:birds``; names on a hub, tags and words stay as they are.
    """
    kind, _, tail = spec.partition(":")
    told = ",".join(_FROM_THE_ROOT.sub(_last_name, part) for part in OPTION.split(tail))
    return f"{kind}:{told}" if told else kind


def _last_name(path: re.Match[str]) -> str:
    return re.split(r"[\\/]", path[0].rstrip("\\/"))[-1]
