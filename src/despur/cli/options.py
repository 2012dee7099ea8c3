"""Options that mean the same in every command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WorkspaceOption = Annotated[Path, typer.Option("--workspace", "-w", metavar="WORK", help="The study's folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps; auto takes the best there is.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Where every random draw starts.")]
UnusedSeedOption = Annotated[
    int, typer.Option("--seed", help="Taken, as by every command; nothing is drawn here, so it changes nothing.")
]
UnusedDeviceOption = Annotated[
    str, typer.Option("--device", help="Taken, as by every command; no model runs here, so it changes nothing.")
]
AttributeOption = Annotated[
    str | None, typer.Option("--attribute", "-a", help="The spurious attribute; needed where the dataset has several.")
]
GroupsOption = Annotated[
    str | None,
    typer.Option(
        "--groups",
        help="attribute; verdicts: all pairs judged spurious, by what was detected; soft-verdicts; or classes: each is "
        "one group.",
        show_default="attribute, or verdicts where the dataset has none, or where --verdicts is given",
    ),
]
SelectOption = Annotated[
    str | None,
    typer.Option(
        "--select",
        help="Validation accuracy that epochs and settings are chosen by: worst-group, of the groups that methods are "
        "told; or average, where no group is known.",
        show_default="worst-group",
    ),
]
RandomWeightsOption = Annotated[
    bool, typer.Option("--random-weights", help="Run an architecture without weights (accuracies then mean nothing).")
]
EngineOption = Annotated[
    str, typer.Option("--engine", help="loop (this process) or ray (actors, here or on a cluster); the same bytes.")
]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="Ray cluster to join; without it Ray starts on this machine.")
]
ActorsOption = Annotated[int, typer.Option("--actors", help="Copies of the model that Ray runs.")]
GpusOption = Annotated[
    float, typer.Option("--num-gpus", help="Share of a GPU for each of Ray's actors (0.5: two on one); 0: processors.")
]
CpusOption = Annotated[
    float, typer.Option("--num-cpus", help="Processors for each of Ray's actors, which reads images with as many.")
]
MirrorOption = Annotated[
    str | None,
    typer.Option(
        "--mirror",
        metavar="URL",
        help="Object store (s3://BUCKET/FOLDER) where every shard is kept too, and fetched from rather than computed.",
    ),
]
