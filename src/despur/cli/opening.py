"""Opens a workspace for a stage: under its lock, on the chosen device."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from despur.cli.console import bar, say

if TYPE_CHECKING:
    from despur.pipeline.embedded import Embedded


def say_waiting() -> None:
    """What a person is told before a command waits for another one."""
    say("waiting for another process to finish with this workspace")


@contextmanager
def opened(folder: Path, device: str) -> Generator[Embedded]:
    """The workspace of a folder, locked while the block runs.

    Raises:
        WorkspaceError: there is none, or another process keeps it.
    """
    from despur.catalog import choose_device
    from despur.pipeline.embedded import Embedded
    from despur.workspace import Workspace

    workspace = Workspace.open(folder)
    with workspace.lock(on_wait=say_waiting):
        yield Embedded(workspace, choose_device(device), progress=bar)
