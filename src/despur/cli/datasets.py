"""``despur datasets``: datasets made from their sources, and handed on to other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from despur.cli.console import bar, command, show
from despur.cli.opening import opened
from despur.cli.options import (
    DebugOption,
    DeviceOption,
    JsonOption,
    SeedOption,
    UnusedDeviceOption,
    UnusedSeedOption,
    WorkspaceOption,
)

app = typer.Typer(help="Datasets made from their sources, and handed on.", no_args_is_help=True)


@app.command("build-waterbirds")
@command
def build(
    cub: Annotated[Path, typer.Argument(help="CUB_200_2011, with its segmentations inside or beside it.")],
    places: Annotated[Path, typer.Argument(help="Places365, in any of its downloads' layouts.")],
    out: Annotated[Path, typer.Argument(help="Made where missing; an unfinished one is finished.")],
    share: Annotated[
        float, typer.Option(help="Share of the training birds before their own place; the rest is balanced.")
    ] = 0.95,
    max_unreadable: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the birds that may be left out.")
    ] = 0.01,
    device: UnusedDeviceOption = "auto",
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


@app.command("export-fiftyone")
@command
def export_fiftyone(
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    workspace: WorkspaceOption,
    split: Annotated[str | None, typer.Option(help="Only train, val or test; by default all images.")] = None,
    maps: Annotated[
        bool, typer.Option("--maps", help="Also Grad-CAM of each image's class, under the run that validation prefers.")
    ] = False,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the images too; else they are named where they lie.")
    ] = False,
    device: DeviceOption = "auto",
    seed: UnusedSeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a workspace as a FiftyOne dataset: classes, attributes, detections, what every run says, and maps.

    Example: despur datasets export-fiftyone OUT -w WORK --split test --maps
    """
    from despur.pipeline.fiftyone import write_fiftyone

    with opened(workspace, device) as embedded:
        done = write_fiftyone(embedded, out, split=split, maps=maps, copy=copy)
    result = {"folder": str(done.folder), "samples": done.samples, "runs": list(done.runs), "maps": done.maps}
    show(
        result,
        as_json=as_json,
        text=lambda: (
            f"{done.samples} samples are in {done.folder}; open them with\n"
            f"  fiftyone.Dataset.from_dir({str(done.folder)!r}, dataset_type=fiftyone.types.FiftyOneDataset)"
        ),
    )
