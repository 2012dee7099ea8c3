"""``despur reproduce``: the paper's tables again, published numbers beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from despur.cli.console import bar, command, say, show
from despur.cli.options import DebugOption, DeviceOption, JsonOption, RandomWeightsOption, WorkspaceOption

if TYPE_CHECKING:
    from despur.reproduce import Beside


@command
def reproduce(
    tables: Annotated[list[str], typer.Argument(metavar="TABLE...", help="table1, table2, table4, or all.")],
    waterbirds: Annotated[Path, typer.Option(metavar="DIR", help="The Waterbirds download.")],
    workspace: WorkspaceOption,
    masks: Annotated[
        Path | None, typer.Option(metavar="DIR", help="CUB's segmentations, for AIoU; else looked for beside it.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Instead of the paper's two; may be given several times.")
    ] = None,
    settings: Annotated[str, typer.Option(help="paper: as it is written; released: as its code's commands.")] = "paper",
    seeds: Annotated[int, typer.Option(help="Runs of each method.")] = 1,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images, instead of 300.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done and how long it takes.")
    ] = False,
    random_weights: RandomWeightsOption = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """The paper's tables on your download of Waterbirds; goes on where it was stopped.

    Examples: despur reproduce table1 table2 --waterbirds waterbirds -w WORK
              despur reproduce table4 --waterbirds waterbirds --masks segmentations --seeds 5 -w WORK
              despur reproduce all --waterbirds waterbirds --settings released -m open_clip:RN50/openai -w WORK
              despur reproduce all --waterbirds waterbirds --dry-run -w WORK
    """
    from despur.catalog import choose_device, load_dataset
    from despur.errors import SettingsError, nearest
    from despur.pipeline import run_study
    from despur.reproduce import TABLES, beside, group_sizes, waterbirds_study
    from despur.reproduce.effort import estimate
    from despur.reproduce.study import MODELS

    wanted = list(TABLES) if tables == ["all"] else tables
    for name in wanted:
        if name not in TABLES:
            raise SettingsError(
                f"there is no {name!r} to reproduce", where="reproduce", now=nearest(name, list(TABLES))
            )
    study = waterbirds_study(
        waterbirds,
        workspace,
        masks=masks,
        models=tuple(model) if model else MODELS,
        recipe=settings,
        seeds=seeds,
        epochs=epochs,
        random_weights=random_weights,
    )
    dataset = load_dataset(study.dataset)
    chosen = choose_device(device)
    efforts = [estimate(study, spec, len(dataset), chosen) for spec in study.models] if set(wanted) - {"table1"} else []
    for effort in efforts:
        say(effort.sentence())
    if dry_run:
        show({"efforts": [effort.to_json() for effort in efforts]}, as_json=as_json, text=lambda: "nothing was done")
        return
    numbers = group_sizes(dataset) if "table1" in wanted else []
    if efforts:
        sections = run_study(study, device=chosen, title="despur reproduce", progress=bar, announce=say).sections
        numbers += [number for name in wanted if name != "table1" for number in beside(name, sections)]
    show({"numbers": [number.to_json() for number in numbers]}, as_json=as_json, text=lambda: _tables(numbers))


def _tables(numbers: list[Beside]) -> Any:
    from rich.console import Group
    from rich.table import Table

    drawn: dict[tuple[str, str], Table] = {}
    for number in numbers:
        key = number.table, number.model
        if key not in drawn:
            drawn[key] = Table("", "", "paper", "ours", "difference", title=" ".join(part for part in key if part))
        cells = (_cell(number.published), _cell(number.ours, number.deviation), _cell(number.difference))
        drawn[key].add_row(number.row, number.column.replace("_", " "), *cells)
    return Group(*drawn.values())


def _cell(value: float | None, deviation: float | None = None) -> str:
    """Counts as they are, rates and AIoU in percent."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{100 * value:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")
