"""``despur demo``: the whole method on the built-in world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from despur.cli.console import bar, command, say, show
from despur.cli.options import DebugOption, DeviceOption, JsonOption, SeedOption
from despur.cli.run import summary, tables


@command
def demo(
    folder: Annotated[Path, typer.Argument(help="Where everything is written.")] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="One model, one seed, fewer scenes.")] = False,
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """See a CLIP model fall for a shortcut and be repaired: no data, no weights, no network.

    Example: despur demo --quick
    """
    from rich.console import Group

    from despur.catalog import choose_device
    from despur.pipeline import run_study
    from despur.pipeline.demo import demo_study
    from despur.pipeline.planted import find_shortcuts, shortcuts_table

    settings = demo_study(folder, quick=quick).seeded(seed)
    where = choose_device(device)
    found = find_shortcuts(folder, quick=quick, seed=seed, device=where, announce=say, progress=bar)
    outcome = run_study(settings, device=where, title="despur demo: birdland", progress=bar, announce=say)
    show(
        {**summary(outcome), "shortcuts": found.to_json()},
        as_json=as_json,
        text=lambda: Group(shortcuts_table(found), tables(outcome)),
    )
