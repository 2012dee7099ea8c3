"""``despur repair``: what is not what was written is found, named and computed again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from despur.cli.console import bar, command, show
from despur.cli.opening import say_waiting
from despur.cli.options import DebugOption, DeviceOption, JsonOption, UnusedSeedOption, WorkspaceOption

if TYPE_CHECKING:
    from despur.pipeline.repairing import Repaired


@command
def repair(
    workspace: WorkspaceOption,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Let a table name images outside its own folder.")
    ] = False,
    device: DeviceOption = "auto",
    seed: UnusedSeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Verify every file against its checksum; compute again what is damaged, and only that.

    Example: despur repair -w WORK
    """
    from despur.pipeline.repairing import repair as mend
    from despur.workspace import Workspace

    found = Workspace.open(workspace)
    with found.lock(on_wait=say_waiting):
        repaired = mend(found, allow_outside=allow_outside, device=device, progress=bar)
    result = {
        "workspace": str(found.root),
        "damaged": [vars(damage) for damage in repaired.damaged],
        "computed": list(repaired.computed),
        "changed": list(repaired.changed),
        "left": list(repaired.left),
    }
    show(result, as_json=as_json, text=lambda: repaired_text(repaired))


def repaired_text(repaired: Repaired) -> str:
    """A line for each damaged file, then what became of it."""
    if not repaired.damaged:
        return "every file is what was written"
    lines = [f"{damage.file}: not what {damage.stage} wrote" for damage in repaired.damaged]
    if repaired.computed:
        lines.append(f"computed again: {', '.join(repaired.computed)}")
    if repaired.changed:
        lines.append(
            f"other bytes than before: {', '.join(repaired.changed)}; another device, machine or version computes other"
            " last digits, and what later stages made of the earlier ones is as it was"
        )
    if repaired.left:
        lines.append(
            f"taken away: the files of {', '.join(repaired.left)}; run the study, or the same command, to have them"
        )
    return "\n".join(lines)
