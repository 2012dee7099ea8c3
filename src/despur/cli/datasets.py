"""``despur datasets``: datasets made from their sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from despur.cli.console import bar, command, show
from despur.cli.options import DebugOption, JsonOption, SeedOption

app = typer.Typer(help="Datasets made from their sources.", no_args_is_help=True)


@app.callback()
def datasets() -> None:
    """Keeps the subcommand's name where there is only one."""


@app.command("build-waterbirds")
@command
def build(
    cub: Annotated[Path, typer.Argument(help="CUB_200_2011, with its segmentations inside or beside it.")],
    places: Annotated[Path, typer.Argument(help="Places365, in any of its downloads' layouts.")],
    out: Annotated[Path, typer.Argument(help="Made where missing; an unfinished one is finished.")],
    share: Annotated[
        float, typer.Option(help="Share of the training birds before their own place; the rest is balanced.")
    ] = 0.95,
    max_unreadable: Annotated[float, typer.Option(help="Share of the birds that may be left out.")] = 0.01,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make Waterbirds: birds cut from CUB by their masks, before photographs of Places.

    Example: despur datasets build-waterbirds CUB_200_2011 places365 OUT
    """
    from despur.data.waterbirds_build import build_waterbirds

    built = build_waterbirds(cub, places, out, share=share, seed=seed, max_unreadable=max_unreadable, progress=bar)
    result = {
        "folder": str(out),
        "dataset": f"waterbirds:{out}",
        "images": built.images,
        "unreadable": built.unreadable,
    }
    left = f", {built.unreadable} birds left out (quarantine.parquet)" if built.unreadable else ""
    show(result, as_json=as_json, text=lambda: f"{built.images} images{left}; use it as waterbirds:{out}")
