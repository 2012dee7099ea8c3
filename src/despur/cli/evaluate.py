"""``despur evaluate``: group accuracies of every run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from despur.cli.console import command, show
from despur.cli.opening import opened
from despur.cli.options import DebugOption, DeviceOption, JsonOption, UnusedSeedOption, WorkspaceOption

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from despur.pipeline.blending import BlendCurve


@command
def evaluate(
    workspace: WorkspaceOption,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    blend_curve: Annotated[
        bool, typer.Option("--blend-curve", help="Also judge blends of the original weights and a run's.")
    ] = False,
    run: Annotated[
        str | None, typer.Option(help="Which run's weights are blended; by default the best on validation.")
    ] = None,
    retain: Annotated[
        str | None,
        typer.Option(help="folder:DIR of classes that were not repaired: accuracy on them before and after."),
    ] = None,
    retain_names: Annotated[
        str | None, typer.Option(help="What those folders are called: imagenet, or a YAML file of FOLDER: phrase.")
    ] = None,
    clip_benchmark: Annotated[
        Path | None,
        typer.Option("--clip-benchmark", metavar="FILE", help="Also write a CSV in the columns of CLIP_benchmark."),
    ] = None,
    device: DeviceOption = "auto",
    seed: UnusedSeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Average, adjusted average and worst-group accuracy of every run, into runs/NAME/metrics.json.

    Example: despur evaluate -w WORK --json
    """
    from dataclasses import asdict

    from rich.console import Group
    from rich.text import Text

    from despur.errors import SettingsError
    from despur.pipeline import evaluate_stage
    from despur.pipeline.blending import blend_stage
    from despur.pipeline.clip_benchmark import write_clip_benchmark
    from despur.pipeline.reporting import section_of
    from despur.pipeline.retaining import retain_stage
    from despur.pipeline.training import run_names
    from despur.report import summary_table
    from despur.workspace import read_json

    if run is not None and not blend_curve:
        raise SettingsError(
            "every run is evaluated", where="--run", now="leave it out, or add --blend-curve to blend its weights"
        )
    if retain_names is not None and retain is None:
        raise SettingsError("no folder is given whose classes it names", where="--retain-names", now="add --retain")
    with opened(workspace, device) as embedded:
        if retain is not None:
            retain_stage(embedded, retain, retain_names)
        evaluate_stage(embedded, split)
        names = run_names(embedded.workspace)
        found: dict[str, Any] = {
            "runs": {name: read_json(embedded.workspace.path("runs", name, "metrics.json")) for name in names}
        }
        if clip_benchmark is not None:
            write_clip_benchmark(embedded, clip_benchmark, split)
            found["clip_benchmark"] = str(clip_benchmark)
        curve = blend_stage(embedded, run, split) if blend_curve else None
        if curve is not None:
            points = [asdict(point) for point in curve.points]
            found["blend"] = {"run": curve.run, "split": split, "points": points, "files": [*map(str, curve.files)]}
        more: list[Table | Text] = [] if curve is None else [_blend_table(curve)]
        if clip_benchmark is not None:
            more.append(Text(f"\nCLIP_benchmark's columns are in {clip_benchmark}"))
        if retain is not None:
            more.append(_retained_table(retain, found["runs"]))
        show(found, as_json=as_json, text=lambda: Group(summary_table(section_of(embedded)), *more))


def _blend_table(curve: BlendCurve) -> Table:
    table = _table(
        f"blends of the original weights and {curve.run}'s",
        ("share repaired", "average (%)", "worst group (%)"),
        "\n".join(map(str, curve.files)),
    )
    for point in curve.points:
        table.add_row(f"{point.share:g}", f"{100 * point.average:.1f}", f"{100 * point.worst_group:.1f}")
    return table


def _retained_table(folder: str, runs: dict[str, Any]) -> Table:
    """Accuracy on classes that were not repaired; a run whose model names no other classes has none."""
    from rich.text import Text

    known = {name: run["retained"] for name, run in runs.items() if run["retained"] is not None}
    size = next((f"{one['classes']} classes, {one['images']} images of {folder}" for one in known.values()), folder)
    table = _table("classes that were not repaired", ("run", "before (%)", "after (%)"), size)
    for name in runs:
        rates = [f"{100 * known[name][key]:.1f}" if name in known else "—" for key in ("before", "after")]
        table.add_row(Text(name), *rates)
    return table


def _table(title: str, columns: tuple[str, ...], caption: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(f"\n{title}", style="bold"),
        caption=Text(caption, style="dim"),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
    )
    for name in columns:
        table.add_column(name, justify="right")
    return table
