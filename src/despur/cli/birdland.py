"""``despur birdland``: the built-in world on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from despur.cli.console import bar, command, show
from despur.cli.options import DebugOption, JsonOption, SeedOption, UnusedDeviceOption

app = typer.Typer(help="The built-in world, as files.", no_args_is_help=True)


@app.command("write")
@command
def write(
    folder: Annotated[Path, typer.Argument(help="Made where missing; a finished world of the same seed is kept.")],
    study: Annotated[
        str, typer.Option(help="birds (as the Waterbirds download looks) or objects (a table).")
    ] = "birds",
    scale: Annotated[
        float | None, typer.Option(help="What the number of images is multiplied by (birds only); 1 by default.")
    ] = None,
    device: UnusedDeviceOption = "auto",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw birdland: scenes, masks and boxes.

    Example: despur birdland write FOLDER --scale 0.1
    """
    from despur.birdland.write import write_birds, write_objects
    from despur.errors import SettingsError, nearest

    if study == "birds":
        write_birds(folder, seed=seed, scale=1.0 if scale is None else scale, progress=bar)
        spec = f"waterbirds:{folder}"
    elif study == "objects":
        if scale is not None:
            raise SettingsError("--scale means nothing for the study of objects", now="leave it out")
        write_objects(folder, seed=seed, progress=bar)
        spec = f"table:{folder / 'examples.csv'}"
    else:
        raise SettingsError(f"birdland has no study {study!r}", now=nearest(study, ["birds", "objects"]))
    show({"folder": str(folder), "dataset": spec}, as_json=as_json, text=lambda: f"written; use it as {spec}")
