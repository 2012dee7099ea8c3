"""Our numbers beside the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from despur.data.examples import Dataset
from despur.mitigate.methods import find_method
from despur.pipeline.embedded import Embedded
from despur.pipeline.evaluation import accuracy_of, split_of
from despur.report import BackboneSection, MethodRow, Spread
from despur.reproduce.published import TABLE_1, TABLE_2, TABLE_4, TABLE_5
from despur.reproduce.study import ABLATION, METHODS

COLUMNS = ("average", "worst_group", "aiou_average", "aiou_worst_group")
"""Of Tables 4 and 5."""


@dataclass(frozen=True)
class Beside:
    """One number of the paper and ours.

    Attributes:
        table: "table1" to "table5", or "ablation".
        model: the spec; empty where the number is of the data alone.
        row, column: where in the table.
        published: the paper's; None where the paper has none for this model.
        ours: our mean over seeds; None where we have none.
        deviation: our standard deviation over seeds; None for one seed.
        remark: what belongs beside the number; often nothing.
    """

    table: str
    model: str
    row: str
    column: str
    published: float | None
    ours: float | None
    deviation: float | None = None
    remark: str = ""

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
    """Table 2, Table 4 or the ablation of every model that was studied."""
    return [number for section in sections for number in _of_section(table, section)]


def _of_section(table: str, section: BackboneSection) -> list[Beside]:
    if table == "table2":
        groups = section.groups
        return _zero_shot(
            section.spec, [(one.phrase, one.class_name, one.present, one.before.accuracy) for one in groups]
        )
    published = {row.method: row for row in TABLE_4 if row.model == architecture(section.spec)}
    shown = ("pretrained", *(ABLATION if table == "ablation" else METHODS))
    return [
        Beside(
            table,
            section.spec,
            find_method(row.method).title,
            column,
            getattr(published[row.method], column) if row.method in published else None,
            *_mean_and_deviation(row, column),
        )
        for row in section.rows
        if row.method in shown
        for column in COLUMNS
    ]


def pair_beside(section: BackboneSection, class_accuracy: Mapping[str, Spread]) -> list[Beside]:
    """Table 5: of each method the accuracy of the class baby pacifier, and the worst group of both classes.

    Args:
        class_accuracy: of each method, over its seeds.
    """
    published = {row.method: row for row in TABLE_5 if row.model == architecture(section.spec)}
    numbers: list[Beside] = []
    for row in section.rows:
        own = {"average": _finite(class_accuracy.get(row.method))}
        for column in COLUMNS:
            numbers.append(
                Beside(
                    "table5",
                    section.spec,
                    find_method(row.method).title,
                    "accuracy of baby pacifier" if column == "average" else column,
                    getattr(published[row.method], column) if row.method in published else None,
                    *(own[column] if column in own else _mean_and_deviation(row, column)),
                )
            )
    return numbers


def zero_shot_beside(embedded: Embedded) -> list[Beside]:
    """Table 2 of one model whose images are embedded; nothing need be trained for it."""
    split = split_of(embedded, "test")
    groups = accuracy_of(embedded, embedded.heads, split)[0].groups
    named = zip(split.grouping.phrases, groups, strict=True)
    return _zero_shot(
        embedded.model.spec, [(phrase, one.class_name, one.present, one.accuracy) for phrase, one in named]
    )


def _zero_shot(spec: str, groups: Sequence[tuple[str, str, bool, float | None]]) -> list[Beside]:
    """Table 2's rows.

    Args:
        groups: of each what it is called, its class, whether it shows water, and its accuracy.
    """
    published = TABLE_2.get(architecture(spec), {})
    return [
        Beside("table2", spec, phrase, "accuracy", published.get((name, present)), accuracy)
        for phrase, name, present, accuracy in groups
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
    return _finite(getattr(row, name))


def _finite(spread: Spread | None) -> tuple[float | None, float | None]:
    if spread is None or not np.isfinite(spread.mean):
        return None, None
    return spread.mean, spread.deviation if np.isfinite(spread.deviation) else None
