"""``despur report``: one page that opens offline."""

from __future__ import annotations

from despur.cli.console import command, show
from despur.cli.opening import opened
from despur.cli.options import DebugOption, DeviceOption, JsonOption, UnusedSeedOption, WorkspaceOption


@command
def report(
    workspace: WorkspaceOption,
    device: DeviceOption = "cpu",
    seed: UnusedSeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write report.html: the shortcut, the groups before and after, every method, maps and settings.

    Example: despur report -w WORK
    """
    from despur.pipeline import report_stage

    with opened(workspace, device) as embedded:
        file = embedded.workspace.path("report.html")
        report_stage([embedded], file)
    show({"report": str(file)}, as_json=as_json, text=lambda: f"report: {file}")
