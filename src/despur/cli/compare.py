"""``despur compare``: every method with the same budget, in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from despur.cli.console import command, say, show
from despur.cli.opening import opened
from despur.cli.options import (
    AttributeOption,
    DebugOption,
    DeviceOption,
    GroupsOption,
    JsonOption,
    SeedOption,
    SelectOption,
    WorkspaceOption,
)

if TYPE_CHECKING:
    from despur.pipeline.comparing import Compared, Comparison


@command
def compare(
    workspace: WorkspaceOption,
    method: Annotated[
        list[str] | None, typer.Option("--method", "-M", help="Only these; may be given several times.")
    ] = None,
    tune: Annotated[int, typer.Option(help="Settings to try for each method; 0: its own.")] = 0,
    seeds: Annotated[int, typer.Option(help="Runs of each method, with this many seeds from --seed on.")] = 5,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    against: Annotated[
        str | None, typer.Option(help="Whom to compare with; by default the best on validation.")
    ] = None,
    attribute: AttributeOption = None,
    groups: GroupsOption = None,
    select: SelectOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """All methods on the test split: mean and deviation over seeds, and whether each differs from the reference.

    The interval draws test images again; p is paired over seeds and adjusted for the number of methods.

    Example: despur compare -w WORK --tune 64 --seeds 5
    """
    from despur.mitigate.methods import METHODS
    from despur.pipeline import MitigateSettings
    from despur.pipeline.comparing import compare_stage
    from despur.pipeline.settings import checked

    given = {"epochs": epochs, "selection": select}
    chosen: dict[str, Any] = {
        "methods": method or list(METHODS),
        "attribute": attribute,
        "seeds": seeds,
        "seed": seed,
        "groups": groups,
        "train": {name: value for name, value in given.items() if value is not None},
    }
    settings = checked(MitigateSettings, chosen, where="compare")
    with opened(workspace, device) as embedded:
        comparison = compare_stage(embedded, settings, tune=tune, against=against)
    for warning in comparison.warnings:
        say(f"warning: {warning}")
    show(comparison.to_json(), as_json=as_json, text=lambda: comparison_table(comparison))


def comparison_table(comparison: Comparison) -> Any:
    """One row a method, accuracies in percent."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1))
    table.add_column("method", overflow="fold", min_width=12)
    for heading in ("worst group", "average", "difference", "p"):
        table.add_column(heading, justify="right")
    for row in comparison.rows:
        table.add_row(*_cells(row, comparison.reference))
    table.caption = (
        f"Split {comparison.split}, in %: mean ± deviation over seeds. Difference: of the worst group from "
        f"{comparison.reference}, with the 95% interval over images; p: paired over seeds, adjusted."
    )
    return table


def _cells(row: Compared, reference: str) -> list[str]:
    remarks = [row.note] if row.note else []
    if row.diverged:
        remarks.insert(0, f"{row.diverged} of {row.seeds} seeds diverged")
    name = "\n".join([row.title, *remarks])
    if row.worst_group is None or row.average is None:
        return [name, "-", "-", "-", "-"]
    difference = "reference" if row.method == reference else _difference(row)
    p_value = "" if row.p_value is None else "<0.001" if row.p_value < 0.001 else f"{row.p_value:.3f}"
    return [
        name,
        _spread(row.worst_group, row.worst_group_deviation),
        _spread(row.average, row.average_deviation),
        difference,
        p_value,
    ]


def _spread(mean: float, deviation: float | None) -> str:
    return f"{100 * mean:.1f}" if deviation is None else f"{100 * mean:.1f} ± {100 * deviation:.1f}"


def _difference(row: Compared) -> str:
    if row.difference is None or row.low is None or row.high is None:
        return ""
    return f"{100 * row.difference:+.1f} ({100 * row.low:+.1f}…{100 * row.high:+.1f})"
