"""``despur figures``: the paper's Figures 3 to 6 over a workspace."""

from __future__ import annotations

from typing import Annotated

import typer

from despur.cli.console import command, show
from despur.cli.explain import ContourOption, MapOption
from despur.cli.opening import opened
from despur.cli.options import DebugOption, DeviceOption, JsonOption, SeedOption, WorkspaceOption


@command
def figures(
    workspace: WorkspaceOption,
    method: MapOption = "gradcam",
    per_group: Annotated[int, typer.Option(min=1, help="Images of every group.")] = 1,
    contour: ContourOption = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """What the model as it came relies on (Figure 3), and where each method looks (Figures 4 to 6), as PNG and SVG.

    Example: despur figures -w WORK --per-group 3
    """
    from despur.pipeline.figures import write_figures

    with opened(workspace, device) as embedded:
        files = write_figures(embedded, method=method, per_group=per_group, contour=contour, seed=seed)
        show({"files": [str(file) for file in files]}, as_json=as_json, text=lambda: "\n".join(map(str, files)))
