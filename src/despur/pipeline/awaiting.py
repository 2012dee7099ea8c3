"""Whether a study has come as far as it can without a person: pairs are ranked, and nobody has called one spurious."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from despur.errors import WorkspaceError
from despur.pipeline.embedded import Embedded
from despur.pipeline.grouping import BY_VERDICTS, groups_of
from despur.pipeline.pairing import judged_so_far, judgements_of
from despur.pipeline.reviewing import ranking_is_current
from despur.pipeline.settings import MitigateSettings
from despur.workspace import read_parquet


@dataclass(frozen=True)
class Awaited:
    """A workspace that waits for verdicts.

    Attributes:
        workspace: its folder.
        pairs: how many are ranked.
        judged: how many of them somebody has judged, none of them as spurious.
    """

    workspace: Path
    pairs: int
    judged: int

    @property
    def command(self) -> str:
        """What a person types to judge them."""
        return shlex.join(["despur", "review", "-w", str(self.workspace)])


def awaited(embedded: Embedded, settings: MitigateSettings) -> Awaited | None:
    """What has to be judged before methods can be told groups; None: nothing has, or judging would not help.

    Pairs that are all judged, none of them as spurious, leave nothing to wait for, and nothing to retrain by.

    Raises:
        DataError: the settings name an attribute that the dataset has not.
        WorkspaceError: there is nothing to judge.
    """
    workspace = embedded.workspace
    told = groups_of(embedded, settings.groups, settings.attribute)
    if told not in BY_VERDICTS or not ranking_is_current(workspace):
        return None
    if judged_so_far(workspace).spurious:
        return None
    ranked = read_parquet(workspace.path("discrepancies.parquet"))
    if not ranked.num_rows:
        raise WorkspaceError(
            "nothing was seen on enough images to be ranked, so that there is nothing to judge",
            where=workspace.root,
            now="look for other phrases, or lower min_count of rank or threshold of detect",
        )
    judgements = judgements_of(workspace)
    pairs = zip(ranked["class"].to_pylist(), ranked["attribute"].to_pylist(), strict=True)
    judged = sum(judgements.outcome(pair) not in (None, "disputed") for pair in pairs)
    return Awaited(workspace.root, ranked.num_rows, judged) if judged < ranked.num_rows else None
