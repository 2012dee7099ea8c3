"""``despur evaluate``: group accuracies of every run."""

from __future__ import annotations

from typing import Annotated

import typer

from despur.cli.console import command, show
from despur.cli.opening import opened
from despur.cli.options import DebugOption, DeviceOption, JsonOption, UnusedSeedOption, WorkspaceOption


@command
def evaluate(
    workspace: WorkspaceOption,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    device: DeviceOption = "auto",
    seed: UnusedSeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Average, adjusted average and worst-group accuracy of every run, into runs/NAME/metrics.json.

    Example: despur evaluate -w WORK --json
    """
    from despur.pipeline import evaluate_stage
    from despur.pipeline.reporting import section_of
    from despur.pipeline.training import run_names
    from despur.report import summary_table
    from despur.workspace import read_json

    with opened(workspace, device) as embedded:
        evaluate_stage(embedded, split)
        names = run_names(embedded.workspace)
        found = {name: read_json(embedded.workspace.path("runs", name, "metrics.json")) for name in names}
        show({"runs": found}, as_json=as_json, text=lambda: summary_table(section_of(embedded)))
