"""The rows of a ranking that a person is shown: as plain values, and as a table for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich import box
from rich.table import Table
from rich.text import Text

from despur.rank import SCHEMA, Ranking, helping, hurting
from despur.report.words import NOTHING, encodable, rate_text
from despur.review.judgements import Judgements

HELPS = "Attributes that go with fewer errors: shortcut candidates"
HURTS = "Attributes that go with more errors"

Row = dict[str, Any]
"""A pair: every column of ``SCHEMA``; ``same``: attributes of the class that are seen on the same images; ``verdict``:
spurious, healthy, unsure, or disputed where judges differ; None: nobody has judged it."""


def shown_rows(ranking: Ranking, judgements: Judgements | None = None) -> tuple[list[Row], list[Row]]:
    """What helps and what hurts, each in the order of the ranking; one row a group of overlapping attributes.

    Args:
        judgements: what people have said; None: nothing.
    """
    said = judgements or Judgements()
    followers: dict[tuple[str, str], list[str]] = {}
    grouped = ranking.table.select(["class", "attribute", "same_as"])
    for row in grouped.filter(pc.field("same_as").is_valid()).to_pylist():
        followers.setdefault((row["class"], row["same_as"]), []).append(row["attribute"])

    def rows(table: pa.Table) -> list[Row]:
        return [
            {
                **row,
                "same": followers.get((row["class"], row["attribute"]), []),
                "verdict": said.outcome((row["class"], row["attribute"])),
            }
            for row in table.select(SCHEMA.names).to_pylist()
        ]

    return rows(helping(ranking.table)), rows(hurting(ranking.table))


def counts_text(ranking: Ranking) -> str:
    """How many images stand behind the numbers, and which do not."""
    return (
        f"{ranking.images:,} images counted; nothing was seen in {ranking.unseen:,} of them, which count as without; "
        f"{ranking.quarantined:,} quarantined, which count nowhere"
    )


def discrepancy_table(rows: Sequence[Row], *, title: str, extra: tuple[str, Sequence[str]] | None = None) -> Table:
    """Rows as Table 3 has them, with accuracies in percent and the discrepancy in points.

    Args:
        extra: heading and cells of one more column.
    """
    table = Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0),
        show_edge=False,
    )
    for heading in ("class", "attribute", "confused with"):
        table.add_column(heading, overflow="fold", min_width=6)
    for heading in ("with %", "without %", "δ", "95%", "q"):
        table.add_column(heading, justify="right", no_wrap=True)
    if extra is not None:
        table.add_column(extra[0], overflow="fold", min_width=7)
    for number, row in enumerate(rows):
        attribute = Text(encodable(row["attribute"]))
        if row["same"]:
            attribute.append(f"\nalso {encodable(', '.join(row['same']))}", style="dim")
        more = [] if extra is None else [Text(encodable(extra[1][number]))]
        table.add_row(
            Text(encodable(row["class"])),
            attribute,
            Text(encodable(row["confused_class"] or NOTHING)),
            _rate(row["accuracy_with"], row["n_with"]),
            _rate(row["accuracy_without"], row["n_without"]),
            Text(_points(row["discrepancy"]), style="bold"),
            Text(f"{_points(row['ci_low'], 0)}…{_points(row['ci_high'], 0)}", style="dim"),
            Text(q_text(row["q_value"])),
            *more,
        )
    return table


def _rate(accuracy: float | None, count: int) -> Text:
    return Text(rate_text(accuracy)).append(f" of {count:,}", style="dim")


def _points(difference: float | None, digits: int = 1) -> str:
    return NOTHING if difference is None else f"{100 * difference:+.{digits}f}"


def q_text(rate: float | None) -> str:
    """A false-discovery rate: ``<0.001``, ``0.032``."""
    if rate is None:
        return NOTHING
    return "<0.001" if rate < 0.001 else f"{rate:.3f}"
