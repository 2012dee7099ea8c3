"""``despur mitigate``: retrain the projections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
from despur.errors import SettingsError


def _numbers(pairs: list[str], option: str, example: str) -> dict[str, float]:
    """``["ls=0.5"]`` to ``{"ls": 0.5}``."""
    numbers: dict[str, float] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name in numbers:
            raise SettingsError(f"{name!r} is given twice", where=option, now="give it once")
        try:
            numbers[name] = float(value)
        except ValueError as error:
            kind = option.lstrip("-")
            raise SettingsError(f"{pair!r} is no {kind}", where=option, now=f"write it as {example}") from error
    return numbers


@command
def mitigate(
    workspace: WorkspaceOption,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", "-M", help="despur, erm, group-dro, ...; may be given several times."),
    ] = None,
    losses: Annotated[
        str | None, typer.Option(help="Train on a sum of losses, beside any --method: clip,vc,lc,ls.")
    ] = None,
    weight: Annotated[list[str] | None, typer.Option(help="Weight of a loss, as ls=0.5; 1 where not given.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="A number that only one method has, as upweight=50 (jtt), gamma=4 (afr).")
    ] = None,
    tune: Annotated[
        int, typer.Option(help="Settings to try for each method before its runs, chosen by validation; 0: its own.")
    ] = 0,
    groups: GroupsOption = None,
    verdicts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take in these verdicts first: .csv, .yaml or .yml.")
    ] = None,
    attribute: AttributeOption = None,
    select: SelectOption = None,
    seeds: Annotated[int, typer.Option(help="Runs of each method, with this many seeds from --seed on.")] = 1,
    seed: SeedOption = 0,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in each step.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", "--lr", help="Of SGD; each method's own by default.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of SGD; each method's own by default.")] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="What features may take, as 6GB; larger ones are read from disk.", show_default="as they need"
        ),
    ] = None,
    shuffle_within: Annotated[
        int | None,
        typer.Option(help="Images that are shuffled together; for features larger than --memory.", show_default="all"),
    ] = None,
    similarity: Annotated[
        str | None, typer.Option(help="contrastive (the paper) or cosine (its released code).")
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(help="Show each epoch as it ends in tensorboard, mlflow or wandb (offline), below WORK/tracking."),
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Retrain the projections so that the model stops leaning on the attribute; goes on where it was stopped.

    Without --method or --losses it is --method despur, the recommended one: Group DRO over the groups it is told.

    Examples: despur mitigate -w WORK --tune 16 --seeds 5
              despur mitigate -w WORK --losses clip,vc,lc,ls --lr 1e-4
              despur mitigate -w WORK --method jtt --tune 64 --seeds 5
              despur mitigate -w WORK --method group-dro --verdicts verdicts.csv
    """
    from despur.mitigate.methods import DESPUR
    from despur.mitigate.methods.pretrained import PRETRAINED
    from despur.mitigate.trainer import DivergedError
    from despur.pipeline import MitigateSettings, mitigate_stage
    from despur.pipeline.chosen import selection_of, unhelped, validation_score
    from despur.pipeline.grouping import group_warnings, groups_of
    from despur.pipeline.pairing import take_verdicts
    from despur.pipeline.settings import checked
    from despur.pipeline.tracking import check_trackers
    from despur.pipeline.training import load_runs, options_by_method
    from despur.pipeline.tuning import judged_runs, tune_stage

    names = [*(method or []), *([] if losses is None else [losses.replace(",", "+")])] or [DESPUR]
    given: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "similarity": similarity,
        "shuffle_within": shuffle_within,
        "selection": select,
        "weights": _numbers(weight, "--weight", "ls=0.5") if weight else None,
    }
    settings = checked(
        MitigateSettings,
        {
            "methods": names,
            "attribute": attribute,
            "groups": "verdicts" if groups is None and verdicts is not None else groups,
            "seeds": seeds,
            "seed": seed,
            "memory": memory,
            "track": track or [],
            "train": {name: value for name, value in given.items() if value is not None},
            "by_method": options_by_method(names, _numbers(option or [], "--option", "upweight=50")),
        },
        where="mitigate",
    )
    check_trackers(settings.track)
    searched = {
        "--learning-rate": learning_rate,
        "--weight-decay": weight_decay,
        "--weight": weight or None,
        "--option": option or None,
    }
    for name, said in searched.items():
        if tune and said is not None:
            raise SettingsError("--tune searches what it gives", where=name, now="leave out one of the two")
    with opened(workspace, device) as embedded:
        if verdicts is not None:
            take_verdicts(embedded, verdicts)
        told = groups_of(embedded, settings.groups, attribute)
        warnings = group_warnings(embedded, attribute, settings.groups)
        for warning in warnings:
            say(f"warning: {warning}")
        if tune:
            settings = tune_stage(embedded, settings, tune)
        trained = mitigate_stage(embedded, settings)
        runs = load_runs(embedded.workspace)
        retrained = [runs[name] for name in trained if runs[name].method != PRETRAINED.name]
        if retrained and all(run.diverged_step is not None for run in retrained):
            raise DivergedError(retrained)
        afterwards = unhelped({name: runs[name] for name in trained})
        for warning in afterwards:
            say(f"warning: {warning}")
        summary = judged_runs(embedded, trained) if tune else []
        chosen_by = "worst group" if selection_of(retrained) == "worst-group" else "average"
    rows = [
        {
            "run": name,
            "best_epoch": runs[name].best_epoch,
            "validation_worst_group": validation_score(runs[name], "worst-group"),
            "validation_average": validation_score(runs[name], "average"),
            "diverged_step": runs[name].diverged_step,
        }
        for name in trained
    ]
    shown = {"runs": rows, "groups": told, "warnings": [*warnings, *afterwards]}
    if tune:
        show({**shown, "methods": summary}, as_json=as_json, text=lambda: _summary_table(summary, chosen_by))
        return
    show(shown, as_json=as_json, text=lambda: _table(rows, chosen_by))


def _table(rows: list[dict[str, Any]], chosen_by: str) -> Any:
    """A row a run, with the validation accuracy that its epoch was chosen by."""
    from rich.table import Table

    table = Table("run", "kept epoch", f"validation {chosen_by}")
    for row in rows:
        diverged = "" if row["diverged_step"] is None else f" (diverged at step {row['diverged_step']})"
        rate = row[_on_validation(chosen_by)]
        table.add_row(row["run"], f"{row['best_epoch']}{diverged}", f"{100 * rate:.1f}%")
    return table


def _on_validation(chosen_by: str) -> str:
    return f"validation_{chosen_by.replace(' ', '_')}"


def _summary_table(rows: list[dict[str, Any]], chosen_by: str) -> Any:
    from rich.table import Table

    table = Table("method", "seeds", f"validation {chosen_by}", "test worst group", "test average")
    for row in rows:
        diverged = f" ({row['diverged']} diverged)" if row["diverged"] else ""
        spreads = [_spread(row[name]) for name in (_on_validation(chosen_by), "worst_group", "average")]
        table.add_row(row["method"], f"{row['seeds']}{diverged}", *spreads)
    return table


def _spread(values: dict[str, float | None] | None) -> str:
    if values is None or values["mean"] is None:
        return "-"
    deviation = values["deviation"]
    return f"{100 * values['mean']:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")
