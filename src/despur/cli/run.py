"""``despur run``: every stage of a study."""

from __future__ import annotations

import shlex
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from despur.cli.console import bar, command, say, show
from despur.cli.options import DebugOption, DeviceOption, JsonOption

if TYPE_CHECKING:
    from despur.pipeline.awaiting import Awaited
    from despur.pipeline.study import StudyOutcome
    from despur.report import Spread


@command
def run(
    study: Annotated[Path, typer.Argument(help="A YAML file: dataset, models, workspace, and any setting of a stage.")],
    device: DeviceOption = "auto",
    seed: Annotated[int | None, typer.Option(help="Where every random draw starts, in place of the file's.")] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run every stage of a study, from images to the report; what is up to date is skipped.

    Where methods are to be told groups by verdicts and nobody has judged a pair spurious yet, the run ends with the
    ranking and exit status 0: its last line is the command that opens the review page, after which the same run goes
    on. With --json, "waiting" says it and "report" is null.

    Example: despur run study.yaml
    """
    from despur.catalog import choose_device
    from despur.pipeline import read_study, run_study

    settings = read_study(study).seeded(seed)
    outcome = run_study(settings, device=choose_device(device), progress=bar, announce=say)
    result = {
        **summary(outcome),
        "waiting": [
            {"workspace": str(one.workspace), "pairs": one.pairs, "judged": one.judged, "next": one.command}
            for one in outcome.waiting
        ],
    }
    show(
        result,
        as_json=as_json,
        text=lambda: waiting_text(outcome.waiting, study) if outcome.waiting else tables(outcome),
    )


def waiting_text(waiting: list[Awaited], study: Path) -> str:
    """What was done, what goes on afterwards, and last the command that comes next; one for each model."""
    judged, pairs = sum(one.judged for one in waiting), sum(one.pairs for one in waiting)
    so_far = f"{judged} of them judged and none as spurious" if judged else "none of them judged yet"
    return "\n".join(
        [
            f"ranked {pairs} pairs, {so_far}: a person decides which are spurious",
            f"afterwards, {shlex.join(['despur', 'run', str(study)])} goes on from here",
            *(f"next: {one.command}" for one in waiting),
        ]
    )


def summary(outcome: StudyOutcome) -> dict[str, Any]:
    """A study's results as plain values: where the report is, and each method's means."""
    rows = [
        {
            "model": section.spec,
            "method": row.method,
            "seeds": row.seeds,
            "diverged": row.diverged,
            "average": _mean(row.average),
            "worst_group": _mean(row.worst_group),
            "aiou_average": _mean(row.aiou_average),
            "aiou_worst_group": _mean(row.aiou_worst_group),
        }
        for section in outcome.sections
        for row in section.rows
    ]
    report = None if outcome.report is None else str(outcome.report)
    return {"report": report, "workspaces": [str(folder) for folder in outcome.workspaces], "rows": rows}


def _mean(spread: Spread | None) -> float | None:
    """A mean for JSON, which knows no NaN; None where no seed has a number."""
    return spread.mean if spread is not None and isfinite(spread.mean) else None


def tables(outcome: StudyOutcome) -> Any:
    """A table a model, and where the report is."""
    from rich.console import Group
    from rich.text import Text

    from despur.report import summary_table

    parts = [summary_table(section) for section in outcome.sections]
    return Group(*parts, Text(f"report: {outcome.report}", overflow="fold"))
