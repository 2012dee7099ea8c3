"""``despur reproduce``: the paper's tables and figures again, published numbers beside ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from despur.cli.console import bar, command, say, show
from despur.cli.options import DebugOption, DeviceOption, JsonOption, RandomWeightsOption, SeedOption, WorkspaceOption

if TYPE_CHECKING:
    from despur.reproduce import Beside, Outcome


PARTS = (
    *(f"table{number}" for number in range(1, 6)),
    *(f"figure{number}" for number in range(3, 7)),
    "ablation",
    "all",
)
"""What a shell offers for a part, before anything heavy is imported."""


def _offered(incomplete: str) -> list[str]:
    return [name for name in PARTS if name.startswith(incomplete)]


@command
def reproduce(
    parts: Annotated[
        list[str],
        typer.Argument(
            metavar="PART...",
            help="table1 to table5, figure3 to figure6, ablation, or all.",
            autocompletion=_offered,
        ),
    ],
    workspace: WorkspaceOption = Path("reproduction"),
    waterbirds: Annotated[Path | None, typer.Option(metavar="DIR", help="The Waterbirds download.")] = None,
    masks: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="CUB's segmentations, for AIoU; else looked for beside the download."),
    ] = None,
    imagenet: Annotated[Path | None, typer.Option(metavar="DIR", help="Holds ImageNet's train and val.")] = None,
    visual_genome: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Holds Visual Genome's synsets; else despur's own vocabulary.")
    ] = None,
    detector: Annotated[str, typer.Option(help="What looks for the phrases in ImageNet's images.")] = "owlvit",
    attribute: Annotated[str, typer.Option(help="The phrase that splits the two classes of table5.")] = "baby",
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Instead of the paper's two; may be given several times.")
    ] = None,
    settings: Annotated[
        str,
        typer.Option(help="paper: as it is written; released: as its code's commands; tuned: the best by validation."),
    ] = "paper",
    seeds: Annotated[int, typer.Option(help="Runs of each method.")] = 1,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images, instead of 300.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done and how long it takes.")
    ] = False,
    random_weights: RandomWeightsOption = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """The paper's tables and figures on your own downloads; goes on where it was stopped.

    Examples: despur reproduce table1 table2 --waterbirds waterbirds
              despur reproduce table4 --waterbirds waterbirds --masks segmentations --seeds 5 -w WORK
              despur reproduce table3 figure3 --imagenet ILSVRC --visual-genome vg -w WORK
              despur reproduce all --waterbirds waterbirds --imagenet ILSVRC --dry-run -w WORK
    """
    from despur.catalog import choose_device
    from despur.reproduce import Choices, Downloads, Looking, Reproduction, chosen_parts

    downloads = Downloads(waterbirds, masks, imagenet)
    chosen = Choices(recipe=settings, seeds=seeds, epochs=epochs, random_weights=random_weights, seed=seed)
    chosen = replace(chosen, models=tuple(model)) if model else chosen
    reproduction = Reproduction(
        parts=chosen_parts(parts, downloads, chosen.models),
        downloads=downloads,
        workspace=workspace,
        choices=chosen,
        looking=Looking(
            detector, ("builtin" if visual_genome is None else f"visual-genome:{visual_genome}",), attribute
        ),
        device=choose_device(device),
        progress=bar,
        announce=say,
    )
    reproduction.check()
    notes = reproduction.notes()
    for note in notes:
        say(note)
    efforts = reproduction.efforts(fetch=not dry_run)
    for effort in efforts:
        say(effort.sentence())
    if dry_run:
        show(
            {"efforts": [effort.to_json() for effort in efforts], "notes": notes},
            as_json=as_json,
            text=lambda: "nothing was done",
        )
        return
    outcome = reproduction.run()
    show(
        {"numbers": [number.to_json() for number in outcome.numbers], "figures": outcome.figures, "notes": notes},
        as_json=as_json,
        text=lambda: _drawn(outcome),
    )


def _drawn(outcome: Outcome) -> Any:
    from rich.console import Group

    lines = [f"{name}: {file}" for name, file in outcome.figures.items()]
    return Group(_tables(outcome.numbers), *lines)


def _tables(numbers: list[Beside]) -> Any:
    from rich.console import Group
    from rich.table import Table

    drawn: dict[tuple[str, str], Table] = {}
    for number in numbers:
        key = number.table, number.model
        if key not in drawn:
            drawn[key] = Table("", "", "paper", "ours", "difference", title=" ".join(part for part in key if part))
        cells = (_cell(number.published), _cell(number.ours, number.deviation), _cell(number.difference))
        row = number.row + (f" ({number.remark})" if number.remark else "")
        drawn[key].add_row(row, number.column.replace("_", " "), *cells)
    return Group(*drawn.values())


def _cell(value: float | None, deviation: float | None = None) -> str:
    """Counts as they are, rates and AIoU in percent."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{100 * value:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")
