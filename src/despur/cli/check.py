"""``despur check``: thresholds for a release pipeline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from despur.cli.console import command, say, show
from despur.cli.options import DebugOption, JsonOption, UnusedDeviceOption, UnusedSeedOption, WorkspaceOption


@command
def check(
    workspace: WorkspaceOption,
    run: Annotated[str | None, typer.Option(help="Which run; by default the best on validation.")] = None,
    split: Annotated[str, typer.Option(help="The split that metrics must be of: train, val or test.")] = "test",
    min_worst_group: Annotated[float | None, typer.Option(help="Accuracy of the worst group, a fraction.")] = None,
    min_average: Annotated[float | None, typer.Option(help="Accuracy over all images.")] = None,
    max_gap: Annotated[float | None, typer.Option(help="Average accuracy minus worst group.")] = None,
    min_aiou: Annotated[float | None, typer.Option("--min-aiou", help="Mean AIoU over images.")] = None,
    min_aiou_worst_group: Annotated[
        float | None, typer.Option("--min-aiou-worst-group", help="Mean AIoU over the worst group.")
    ] = None,
    min_retained: Annotated[
        float | None,
        typer.Option(
            help="Accuracy as a share of that of the model as it came; on other classes after evaluate --retain."
        ),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML there.")] = None,
    device: UnusedDeviceOption = "auto",
    seed: UnusedSeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Hold a run to thresholds: exit status 1 and one line for each that fails, 2 where nothing can be checked.

    Example: despur check -w WORK --min-worst-group 0.7 --max-gap 0.1 --junit check.xml
    """
    from despur.pipeline.checking import Thresholds, check_run, write_junit
    from despur.pipeline.settings import checked
    from despur.workspace import Workspace

    given = {
        "min_worst_group": min_worst_group,
        "min_average": min_average,
        "max_gap": max_gap,
        "min_aiou": min_aiou,
        "min_aiou_worst_group": min_aiou_worst_group,
        "min_retained": min_retained,
    }
    name, found = check_run(Workspace.open(workspace), checked(Thresholds, given, where="check"), run, split)
    if junit is not None:
        write_junit(junit, name, found, split)
    failed = [one for one in found if not one.passed]
    rows = [{**vars(one)} for one in found]
    show(
        {"run": name, "split": split, "passed": not failed, "checks": rows},
        as_json=as_json,
        text=lambda: f"{name}: {len(found) - len(failed)} of {len(found)} thresholds hold on {split}",
    )
    for one in failed:
        say(f"{name}: {one.line}")
    if failed:
        sys.exit(1)
