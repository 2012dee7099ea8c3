"""``despur explain``: where each run looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from despur.cli.console import command, show
from despur.cli.opening import opened
from despur.cli.options import DebugOption, DeviceOption, JsonOption, SeedOption, WorkspaceOption

if TYPE_CHECKING:
    from rich.table import Table

MapOption = Annotated[
    str,
    typer.Option(
        "--method",
        help="gradcam (the paper's); for vision transformers also relevance (attention-gradient), rollout, similarity.",
    ),
]
ContourOption = Annotated[bool, typer.Option("--contour", help="Draw maps as contour lines, not as colours.")]


@command
def explain(
    workspace: WorkspaceOption,
    method: MapOption = "gradcam",
    images: Annotated[
        int | None, typer.Option(help="Test images to measure, drawn by the seed; all by default.")
    ] = None,
    strips: Annotated[int, typer.Option(help="Images of every group to draw; Grad-CAM's are in the report.")] = 3,
    checks: Annotated[
        int, typer.Option(help="Images on which the maps are checked: deletion, insertion, a shuffled head.")
    ] = 6,
    contour: ContourOption = False,
    batch_size: Annotated[int, typer.Option(help="Images at once.")] = 32,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Explanation maps of every run: AIoU and other measures, checks of the maps, and pictures.

    They go into explanations.parquet, checks.json, strips/ and runs/NAME/metrics.json; maps of another method than
    Grad-CAM into files of their own (explanations-rollout.parquet, checks-rollout.json, strips-rollout/), and neither
    into metrics.json nor into the report.

    Examples: despur explain -w WORK --images 1000
              despur explain -w WORK --method relevance
    """
    from despur.pipeline import ExplainSettings, evaluate_stage, explain_stage
    from despur.pipeline.evaluation import evaluated_split
    from despur.pipeline.explaining import means_of_runs
    from despur.pipeline.settings import checked

    settings = checked(
        ExplainSettings,
        {
            "method": method,
            "images": images,
            "strips": strips,
            "checks": checks,
            "contour": contour,
            "batch_size": batch_size,
            "seed": seed,
        },
        where="explain",
    )
    with opened(workspace, device) as embedded:
        explain_stage(embedded, settings)
        # The split stays the one that the user evaluated on last.
        evaluate_stage(embedded, evaluated_split(embedded.workspace))
        found = means_of_runs(embedded, settings.method)
        show({"method": settings.method, **found}, as_json=as_json, text=lambda: measures_table(settings.method, found))


def measures_table(method: str, found: dict[str, dict[str, Any]]) -> Table:
    """A row a run, a column a measure: means over the images, and over the worst group where it is known."""
    from rich.table import Table

    table = Table(title=f"Where each run looks ({method})")
    table.add_column("run")
    for measure in found:
        table.add_column(measure.replace("_", " "), justify="right")
    for run in next(iter(found.values())):
        values = [by_run[run] for by_run in found.values()]
        table.add_row(run, *("–" if value is None else f"{value:.3f}" for value in values))
    return table
