"""``despur export``: a run as ordinary weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from despur.cli.console import command, show
from despur.cli.opening import opened
from despur.cli.options import DebugOption, DeviceOption, JsonOption, UnusedSeedOption, WorkspaceOption


@command
def export(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    workspace: WorkspaceOption,
    run: Annotated[str | None, typer.Option(help="Which run; by default the best on validation.")] = None,
    to: Annotated[str, typer.Option("--to", help="open-clip, transformers or heads.")] = "open-clip",
    blend: Annotated[
        float, typer.Option("--blend", metavar="A", help="Share of the retrained weights; the rest stay as they were.")
    ] = 1.0,
    space: Annotated[
        bool, typer.Option("--space", help="Write a Hugging Face Space that shows the model; it starts offline.")
    ] = False,
    licence: Annotated[str | None, typer.Option("--license", "--licence", help="Licence for the model card.")] = None,
    device: DeviceOption = "auto",
    seed: UnusedSeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a run as a checkpoint that open_clip or transformers loads without despur, with a model card.

    Examples: despur export -w WORK --to open-clip OUT
              despur export -w WORK --run group-dro-seed0 --space OUT
    """
    from despur.pipeline.exporting import export_run
    from despur.report.words import rate_text

    with opened(workspace, device) as embedded:
        done = export_run(embedded, folder, to=to, run=run, blend=blend, licence=licence, space=space)
    result = {
        "folder": str(done.folder),
        "run": done.run,
        "files": sorted(file.name for file in done.folder.iterdir()),
        "before": done.before.to_json(),
        "after": done.after.to_json(),
    }
    show(
        result,
        as_json=as_json,
        text=lambda: (
            f"{done.run} is in {done.folder}: worst group {rate_text(done.before.worst_group)}% before, "
            f"{rate_text(done.after.worst_group)}% after, average {rate_text(done.before.average)}% before, "
            f"{rate_text(done.after.average)}% after; README.md says how to load it"
        ),
    )
