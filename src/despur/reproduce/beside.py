"""Our numbers beside the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from despur.data.examples import Dataset
from despur.mitigate.methods import find_method
from despur.report import BackboneSection, MethodRow, Spread
from despur.reproduce.published import TABLE_1, TABLE_2, TABLE_4


@dataclass(frozen=True)
class Beside:
    """One number of the paper and ours.

    Attributes:
        table: "table1", "table2" or "table4".
        model: the spec; empty where the number is of the data alone.
        row, column: where in the table.
        published: the paper's; None where the paper has none for this model.
        ours: our mean over seeds; None where we have none.
        deviation: our standard deviation over seeds; None for one seed.
    """

    table: str
    model: str
    row: str
    column: str
    published: float | None
    ours: float | None
    deviation: float | None = None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.published is None or self.ours is None else self.ours - self.published

    def to_json(self) -> dict[str, Any]:
        """The row with its difference."""
        return {**asdict(self), "difference": self.difference}


def group_sizes(dataset: Dataset) -> list[Beside]:
    """Table 1: training images of each group."""
    rows = dataset.split_rows("train")
    label, water = dataset.labels[rows], dataset.table["water"].to_numpy(zero_copy_only=False)[rows]
    return [
        Beside(
            "table1",
            "",
            f"{name} {'on water' if present else 'on land'}",
            "train",
            published,
            int(np.sum((label == dataset.classes.index(name)) & (water == present))),
        )
        for (name, present), published in TABLE_1.items()
    ]


def beside(table: str, sections: Sequence[BackboneSection]) -> list[Beside]:
    """Table 2 or Table 4 of every model that was studied."""
    part = _zero_shot if table == "table2" else _methods
    return [number for section in sections for number in part(section)]


def _zero_shot(section: BackboneSection) -> list[Beside]:
    published = TABLE_2.get(architecture(section.spec), {})
    return [
        Beside(
            "table2",
            section.spec,
            group.phrase,
            "accuracy",
            published.get((group.class_name, group.present)),
            group.before.accuracy,
        )
        for group in section.groups
    ]


def _methods(section: BackboneSection) -> list[Beside]:
    published = {row.method: row for row in TABLE_4 if row.model == architecture(section.spec)}
    return [
        Beside(
            "table4",
            section.spec,
            find_method(row.method).title,
            column,
            getattr(published[row.method], column) if row.method in published else None,
            *_mean_and_deviation(row, column),
        )
        for row in section.rows
        for column in ("average", "worst_group", "aiou_average", "aiou_worst_group")
    ]


def architecture(spec: str) -> str:
    """``RN50`` of ``open_clip:RN50/openai``."""
    return spec.partition(":")[2].partition("/")[0].partition(",")[0]


def _mean_and_deviation(row: MethodRow, column: str) -> tuple[float | None, float | None]:
    """A row's mean and deviation.

    The paper's average is the adjusted one: Table 2's four accuracies of RN50, weighted by Table 1's sizes, give the
    90.8% of Table 4.
    """
    name = "adjusted_average" if column == "average" else column
    spread: Spread | None = getattr(row, name)
    if spread is None or not np.isfinite(spread.mean):
        return None, None
    return spread.mean, spread.deviation if np.isfinite(spread.deviation) else None
