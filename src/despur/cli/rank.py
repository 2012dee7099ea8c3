"""``despur rank``: which of the things seen the model's accuracy hangs on."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from despur.cli.console import command, show
from despur.cli.opening import opened
from despur.cli.options import DebugOption, DeviceOption, JsonOption, UnusedSeedOption, WorkspaceOption


@command
def rank(
    workspace: WorkspaceOption,
    order: Annotated[
        str, typer.Option(help="discrepancy, interval, mutual-information, or released (the paper's released code).")
    ] = "discrepancy",
    top: Annotated[int, typer.Option(help="Attributes shown a class, on either side.")] = 5,
    min_count: Annotated[int, typer.Option(help="Images of the class that an attribute must be seen in.")] = 10,
    split: Annotated[str | None, typer.Option(help="Count only train, val or test.")] = None,
    min_score: Annotated[float, typer.Option(help="Detections below this score do not count.")] = 0.0,
    same: Annotated[float, typer.Option(help="Attributes that overlap this much are one row.")] = 0.5,
    rows: Annotated[int, typer.Option(min=1, help="Rows printed on either side; the files hold all.")] = 20,
    memory: Annotated[str, typer.Option(help="What counting may take; the rest goes to disk.")] = "4GB",
    device: DeviceOption = "auto",
    seed: UnusedSeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Accuracy with each attribute against accuracy without it, class by class, into discrepancies.parquet.

    Pairs that people have judged are marked with the verdict, or as disputed.

    Examples: despur rank -w WORK
              despur rank -w WORK --order interval --top 3 --min-count 25 --json
    """
    from despur.errors import SettingsError, nearest
    from despur.pipeline import predict_stage
    from despur.pipeline.pairing import judgements_of
    from despur.pipeline.ranking import rank_stage, read_ranking
    from despur.pipeline.settings import checked
    from despur.pipeline.shortlisted import HELPS, HURTS, counts_text, discrepancy_table, shown_rows
    from despur.rank import ORDERS, RankSettings

    if order not in ORDERS:
        raise SettingsError(f"there is no order {order!r}", where="rank", now=nearest(order, ORDERS))
    settings = checked(
        RankSettings,
        {
            "order": order,
            "top": top,
            "min_count": min_count,
            "split": split,
            "min_score": min_score,
            "same": same,
        },
        where="rank",
    )
    with opened(workspace, device) as embedded:
        predict_stage(embedded)
        computed = rank_stage(embedded, settings, memory=memory)
        ranking = read_ranking(embedded.workspace)
        judgements = judgements_of(embedded.workspace)
    helps, hurts = shown_rows(ranking, judgements)
    is_judged = any(row["verdict"] for row in helps + hurts)

    def text() -> Any:
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = []
        for title, side in ((HELPS, helps), (HURTS, hurts)):
            if side:
                verdicts = ("verdict", [row["verdict"] or "" for row in side[:rows]]) if is_judged else None
                parts.append(discrepancy_table(side[:rows], title=title, extra=verdicts))
            if side[rows:]:
                parts.append(Text(f"{len(side) - rows:,} more (--rows, --json)", style="dim"))
        if not parts and ranking.table.num_rows:
            parts.append(Text("each attribute is seen in all images of its class: there is none without to compare"))
        elif not parts:
            parts.append(Text(f"no attribute is seen in {min_count} images of a class or more (--min-count)"))
        return Group(*parts, Text(counts_text(ranking), style="dim"))

    result = {
        "images": ranking.images,
        "unseen": ranking.unseen,
        "quarantined": ranking.quarantined,
        "pairs": ranking.table.num_rows,
        "helping": helps,
        "hurting": hurts,
        "computed": computed,
    }
    show(result, as_json=as_json, text=text)
