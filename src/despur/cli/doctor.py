"""``despur doctor``: versions, devices, what is missing and how to get it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from despur.cli.console import command, show
from despur.cli.options import DebugOption, JsonOption, UnusedDeviceOption, UnusedSeedOption

if TYPE_CHECKING:
    from despur.pipeline.doctor import Finding

STYLES = {"ok": "", "note": "yellow", "problem": "bold red"}


@command
def doctor(
    folder: Annotated[Path, typer.Argument(help="Where a workspace is to lie; its disk is looked at.")] = Path(),
    hub: Annotated[bool, typer.Option("--hub", help="Also ask whether the Hugging Face hub can be reached.")] = False,
    tags: Annotated[
        str | None,
        typer.Option(metavar="ARCH", help="Only list the weights that open_clip knows for an architecture."),
    ] = None,
    device: UnusedDeviceOption = "auto",
    seed: UnusedSeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Look at this installation and machine; exit status 1 where something that is needed is missing.

    Examples: despur doctor --hub
              despur doctor --tags ViT-B-32
    """
    from despur.pipeline.doctor import examine, model_specs

    if tags is not None:
        known = model_specs(tags)
        show({"models": known}, as_json=as_json, text=lambda: "\n".join(known) or f"open_clip has none for {tags}")
        return
    findings = examine(folder, ask_hub=hub)
    show({"findings": [asdict(one) for one in findings]}, as_json=as_json, text=lambda: _table(findings))
    if any(one.state == "problem" for one in findings):
        sys.exit(1)


def _table(findings: list[Finding]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    for column in ("name", "found", "advice"):
        table.add_column(column, overflow="fold")
    for one in findings:
        table.add_row(Text(one.name), Text(one.found, style=STYLES[one.state]), Text(one.advice))
    return table
