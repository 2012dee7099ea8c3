"""``despur verdicts``: what people decided, out of a workspace and into it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from despur.cli.console import command, show
from despur.cli.options import DebugOption, JsonOption, UnusedDeviceOption, UnusedSeedOption, WorkspaceOption

app = typer.Typer(help="Take verdicts out of a workspace, or into it, as a file to keep in git.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Ends in .csv, .yaml or .yml.")]


@app.command("export")
@command
def export_verdicts(
    file: FileArgument,
    workspace: WorkspaceOption,
    device: UnusedDeviceOption = "auto",
    seed: UnusedSeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the verdicts that stand now, everyone's, and the images struck out.

    Example: despur verdicts export verdicts.csv -w WORK
    """
    from despur.review.exchange import lines_of, write_verdicts
    from despur.review.judgements import Judgements
    from despur.review.store import VERDICTS, VerdictStore
    from despur.workspace import Workspace

    history = Workspace.open(workspace).path(VERDICTS)
    lines = lines_of(Judgements(VerdictStore(history).events() if history.exists() else []))
    write_verdicts(file, lines)
    show(
        {"file": str(file), "lines": len(lines)},
        as_json=as_json,
        text=lambda: f"{file}: {len(lines):,} verdicts and struck images",
    )


@app.command("import")
@command
def import_file(
    file: FileArgument,
    workspace: WorkspaceOption,
    device: UnusedDeviceOption = "auto",
    seed: UnusedSeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Add a file's verdicts to the history; a newer verdict is not replaced.

    Names and moments are those that its lines hold, or else the file's own name and when it was changed last.

    Example: despur verdicts import verdicts.csv -w WORK
    """
    from despur.review.exchange import bring_verdicts
    from despur.workspace import Workspace

    done = bring_verdicts(Workspace.open(workspace), file)
    show(
        {"file": str(file), "added": done.added, "passed_over": done.passed_over},
        as_json=as_json,
        text=lambda: f"{file}: {done.added:,} lines added, {done.passed_over:,} already there or older",
    )
