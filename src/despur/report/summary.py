"""The summary table's columns, what stands in a cell, and which cells are best: for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from operator import attrgetter

from despur.report.content import MethodRow, Spread
from despur.report.words import NOTHING, counted, rate_text, score_text


@dataclass(frozen=True)
class Column:
    """One measure.

    Attributes:
        title: its heading; ``in_percent`` says whether "%" is to stand beside it.
        value: a row's spread, None where the row has none.
        show: a mean or a deviation as text.
    """

    title: str
    in_percent: bool
    value: Callable[[MethodRow], Spread | None]
    show: Callable[[float | None], str]


COLUMNS = (
    Column("average", True, attrgetter("average"), rate_text),
    Column("adjusted average", True, attrgetter("adjusted_average"), rate_text),
    Column("worst group", True, attrgetter("worst_group"), rate_text),
    Column("AIoU average", False, attrgetter("aiou_average"), score_text),
    Column("AIoU worst group", False, attrgetter("aiou_worst_group"), score_text),
)


@dataclass(frozen=True)
class Cell:
    """A mean and its deviation as text; ``deviation`` is empty for a single seed."""

    mean: str
    deviation: str
    best: bool


def columns(rows: Sequence[MethodRow]) -> list[Column]:
    """The columns for which at least one row has a number."""
    return [column for column in COLUMNS if any(mean_of(row, column) is not None for row in rows)]


def mean_of(row: MethodRow, column: Column) -> float | None:
    """A row's mean, None where it has no finite one."""
    spread = column.value(row)
    return spread.mean if spread is not None and isfinite(spread.mean) else None


def cells(rows: Sequence[MethodRow], column: Column) -> list[Cell]:
    """One column, a cell a row. Best are the cells that print the highest mean.

    A method that diverged under some seed is never best: its mean is over the seeds that went well. Nothing is best
    where fewer than two methods can be compared.
    """
    rivals = [mean for row in rows if row.diverged == 0 and (mean := mean_of(row, column)) is not None]
    highest = column.show(max(rivals)) if len(rivals) > 1 else None
    return [cell(row, column, highest) for row in rows]


def cell(row: MethodRow, column: Column, highest: str | None) -> Cell:
    """One number of the table as it is shown: mean, deviation, and whether it is the best of its column."""
    mean, spread = mean_of(row, column), column.value(row)
    if mean is None or spread is None:
        return Cell(NOTHING, "", best=False)
    shown = column.show(mean)
    deviation = column.show(spread.deviation) if isfinite(spread.deviation) else ""
    return Cell(shown, deviation, best=row.diverged == 0 and shown == highest)


def remarks(row: MethodRow, rows: Sequence[MethodRow]) -> list[str]:
    """What a reader must know beside a method's title: fewer seeds than the others, seeds that diverged, its note."""
    found: list[str] = []
    if row.diverged:
        found.append(f"{row.diverged} of {counted(row.seeds, 'seed', 'seeds')} diverged")
    elif row.seeds < max(other.seeds for other in rows):
        found.append(counted(row.seeds, "seed", "seeds"))
    return [*found, row.note] if row.note else found


def caption(rows: Sequence[MethodRow], split: str) -> str:
    """What the table's numbers are, in one or two sentences."""
    seeds = max((row.seeds for row in rows), default=1)
    over = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed, so no standard deviation"
    text = f"Split “{split}”: accuracies in %, {over}."
    if any(cell.best for column in COLUMNS for cell in cells(rows, column)):
        text += " Bold: the best mean of its column."
    if any(row.diverged for row in rows):
        text += " Means leave out the seeds that diverged, and a method with such a seed is not marked as best."
    return text
