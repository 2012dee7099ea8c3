"""``despur diff``: why two workspaces differ."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from despur.cli.console import command, show
from despur.cli.options import DebugOption, JsonOption, UnusedDeviceOption, UnusedSeedOption

if TYPE_CHECKING:
    from despur.pipeline.differing import Comparison, Difference


@command
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A study's folder.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    device: UnusedDeviceOption = "auto",
    seed: UnusedSeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Say why two runs differ: settings, inputs, seeds, versions, machines, and the files that came out other.

    Exit status 1 where a result differs, 0 where all are the same, 2 where that cannot be said.

    Example: despur diff WORK ANOTHER
    """
    from despur.pipeline.differing import compare_workspaces
    from despur.workspace import Workspace

    comparison = compare_workspaces(Workspace.open(first), Workspace.open(second))
    rows = [vars(difference) for difference in comparison.differences]
    differ = any(difference.kind == "file" for difference in comparison.differences)
    show(
        {"same": not differ, "verdict": comparison.verdict, "differences": rows},
        as_json=as_json,
        text=lambda: diff_text(comparison),
    )
    if differ:
        sys.exit(1)


def diff_text(comparison: Comparison) -> str:
    """A line for each difference, the verdict last."""
    return "\n".join([*map(_line, comparison.differences), comparison.verdict])


def _line(difference: Difference) -> str:
    if difference.kind == "file":
        owner = "only in B" if difference.a is None else "only in A" if difference.b is None else "other bytes"
        return f"file {difference.name}: {owner}"
    place = difference.kind if difference.stage is None else f"{difference.stage}: {difference.kind}"
    if difference.kind == "inputs":
        return f"{place} differ ({difference.a[:12]}… and {difference.b[:12]}…)"
    name = "" if difference.name in (difference.kind, difference.stage) else f" {difference.name}"
    return f"{place}{name}: {_said(difference.a)} and {_said(difference.b)}"


def _said(value: object) -> str:
    return "nothing" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
