"""``despur init``: a first study file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from despur.cli.console import command, show
from despur.cli.options import DebugOption, JsonOption, SeedOption, UnusedDeviceOption


@command
def init(
    folder: Annotated[Path, typer.Argument(help="A folder of images, a download, or one that holds a table.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The study file.")] = Path("study.yaml"),
    model: Annotated[
        str, typer.Option("--model", "-m", help="The model to study; it can be changed in the file.")
    ] = "open_clip:RN50/openai",
    force: Annotated[bool, typer.Option("--force", help="Replace a study file that is there.")] = False,
    device: UnusedDeviceOption = "auto",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Look at a folder and write a commented study.yaml for it.

    Example: despur init FOLDER
    """
    from despur.pipeline.beginning import begin_study

    begun = begin_study(folder, out, model=model, seed=seed, overwrite=force)
    show(
        {"study": str(begun.file), "dataset": begun.spec, "seen": begun.seen},
        as_json=as_json,
        text=lambda: "\n".join([begun.spec, *(f"  {line}" for line in begun.seen), f"next: despur run {begun.file}"]),
    )
