"""``despur mitigate``: retrain the projections."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from despur.cli.console import command, show
from despur.cli.opening import opened
from despur.cli.options import AttributeOption, DebugOption, DeviceOption, JsonOption, SeedOption, WorkspaceOption
from despur.errors import SettingsError


def _weights(pairs: list[str]) -> dict[str, float]:
    """``["ls=0.5"]`` to ``{"ls": 0.5}``."""
    weights: dict[str, float] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            weights[name] = float(value)
        except ValueError as error:
            raise SettingsError(f"{pair!r} is no weight", where="--weight", now="write it as ls=0.5") from error
    return weights


@command
def mitigate(
    workspace: WorkspaceOption,
    method: Annotated[
        list[str] | None, typer.Option("--method", "-M", help="erm, group-dro, ...; may be given several times.")
    ] = None,
    losses: Annotated[str | None, typer.Option(help="Losses instead of a named method: clip,vc,lc,ls.")] = None,
    weight: Annotated[list[str] | None, typer.Option(help="Weight of a loss, as ls=0.5; 1 where not given.")] = None,
    attribute: AttributeOption = None,
    seeds: Annotated[int, typer.Option(help="Runs of each method, with this many seeds from --seed on.")] = 1,
    seed: SeedOption = 0,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in each step.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", "--lr", help="Of SGD; each method's own by default.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of SGD; each method's own by default.")] = None,
    similarity: Annotated[
        str | None, typer.Option(help="contrastive (the paper) or cosine (its released code).")
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Retrain the projections so that the model stops leaning on the attribute; goes on where it was stopped.

    Without --method or --losses, every row of the paper's Table 4 is trained.

    Examples: despur mitigate -w WORK --losses clip,vc,lc,ls --seeds 5
              despur mitigate -w WORK --method group-dro --lr 1e-4
    """
    from despur.pipeline import DEFAULT_METHODS, MitigateSettings, mitigate_stage
    from despur.pipeline.chosen import validation_worst_group
    from despur.pipeline.settings import checked
    from despur.pipeline.training import load_runs

    names = [*(method or []), *([losses.replace(",", "+")] if losses else [])] or list(DEFAULT_METHODS)
    given: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "similarity": similarity,
        "weights": _weights(weight) if weight else None,
    }
    settings = checked(
        MitigateSettings,
        {
            "methods": names,
            "attribute": attribute,
            "seeds": seeds,
            "seed": seed,
            "train": {name: value for name, value in given.items() if value is not None},
        },
        where="mitigate",
    )
    with opened(workspace, device) as embedded:
        trained = mitigate_stage(embedded, settings)
        runs = load_runs(embedded.workspace)
    rows = [
        {
            "run": name,
            "best_epoch": runs[name].best_epoch,
            "validation_worst_group": validation_worst_group(runs[name]),
            "diverged_step": runs[name].diverged_step,
        }
        for name in trained
    ]
    show({"runs": rows}, as_json=as_json, text=lambda: _table(rows))


def _table(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table("run", "kept epoch", "validation worst group")
    for row in rows:
        diverged = "" if row["diverged_step"] is None else f" (diverged at step {row['diverged_step']})"
        table.add_row(row["run"], f"{row['best_epoch']}{diverged}", f"{100 * row['validation_worst_group']:.1f}%")
    return table
