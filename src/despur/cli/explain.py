"""``despur explain``: where each run looks."""

from __future__ import annotations

from typing import Annotated

import typer

from despur.cli.console import command, show
from despur.cli.opening import opened
from despur.cli.options import DebugOption, DeviceOption, JsonOption, SeedOption, WorkspaceOption


@command
def explain(
    workspace: WorkspaceOption,
    images: Annotated[
        int | None, typer.Option(help="Test images to measure, drawn by the seed; all by default.")
    ] = None,
    strips: Annotated[int, typer.Option(help="Images of the worst group to show in the report.")] = 6,
    batch_size: Annotated[int, typer.Option(help="Images at once.")] = 32,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Grad-CAM maps and AIoU of every run, into explanations.parquet and runs/NAME/metrics.json.

    Example: despur explain -w WORK --images 1000
    """
    from despur.pipeline import ExplainSettings, evaluate_stage, explain_stage
    from despur.pipeline.reporting import section_of
    from despur.pipeline.settings import checked
    from despur.pipeline.training import run_names
    from despur.report import summary_table
    from despur.workspace import read_json

    settings = checked(
        ExplainSettings,
        {"images": images, "strips": strips, "batch_size": batch_size, "seed": seed},
        where="explain",
    )
    with opened(workspace, device) as embedded:
        explain_stage(embedded, settings)
        evaluate_stage(embedded)
        names = run_names(embedded.workspace)
        found = {name: read_json(embedded.workspace.path("runs", name, "metrics.json"))["aiou"] for name in names}
        show({"aiou": found}, as_json=as_json, text=lambda: summary_table(section_of(embedded)))
