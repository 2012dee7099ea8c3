"""Table 3 and Figure 3: what a model leans on over all classes of ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from despur.data.examples import Dataset
from despur.explain.methods import find_map_method
from despur.explain.sheet import Cell, Row, Sheet
from despur.mitigate.methods.pretrained import PRETRAINED
from despur.pipeline.detecting import detections_path
from despur.pipeline.embedded import Embedded
from despur.pipeline.ranking import rank_stage, read_ranking
from despur.pipeline.strips import Seen
from despur.rank import RankSettings
from despur.reproduce.beside import Beside, architecture
from despur.reproduce.published import RN50, TABLE_3
from despur.workspace import read_parquet

STRONGEST = 5
"""Pairs of our own that follow the paper's; it prints five too."""


def ranked_pairs(embedded: Embedded, settings: RankSettings | None = None) -> list[dict[str, Any]]:
    """Every pair of the training images that can be compared, as a row each, the largest discrepancy first."""
    rank_stage(embedded, settings or RankSettings(split="train"))
    rows = read_ranking(embedded.workspace).table.to_pylist()
    return sorted(
        (row for row in rows if row["discrepancy"] is not None), key=lambda row: row["discrepancy"], reverse=True
    )


def shortcuts_beside(model: str, ranked: Sequence[dict[str, Any]]) -> list[Beside]:
    """Table 3: the paper's five pairs, then our own strongest ones.

    Args:
        model: its spec; the paper's numbers are of RN50.
        ranked: as :func:`ranked_pairs` returns them.
    """
    known = architecture(model) == RN50
    found = {(row["class"], row["attribute"]): row for row in ranked}
    numbers: list[Beside] = []
    for line in TABLE_3:
        row = found.pop((line.class_name, line.attribute), None)
        remark = f"paper: taken for {line.confused_class}" + ("" if row is None else f"; ours: {row['confused_class']}")
        numbers.append(
            Beside(
                "table3",
                model,
                f"{line.class_name}, {line.attribute}",
                "discrepancy",
                line.discrepancy if known else None,
                None if row is None else row["discrepancy"],
                remark=remark,
            )
        )
    own = [row for row in found.values() if row["discrepancy"] > 0][:STRONGEST]
    return numbers + [
        Beside(
            "table3",
            model,
            f"{row['class']}, {row['attribute']}",
            "discrepancy",
            None,
            row["discrepancy"],
            remark=f"among our {STRONGEST} strongest; taken for {row['confused_class']}",
        )
        for row in own
    ]


def shortcuts_figure(embedded: Embedded, numbers: Sequence[Beside], *, seed: int = 0) -> Sheet:
    """Figure 3: of each pair of Table 3 an image with the attribute that is right, and one without that is wrong.

    Args:
        numbers: as :func:`shortcuts_beside` returns them.
        seed: draws the images.
    """
    method = find_map_method("gradcam")
    method.check(embedded.backbone)
    dataset, correct = embedded.dataset, read_parquet(embedded.workspace.path("predictions.parquet"))
    right = dict(zip(correct["id"].to_pylist(), correct["correct"].to_pylist(), strict=True))
    detections = read_parquet(detections_path(embedded.workspace)).select(["id", "phrase"])
    generator, rows = np.random.default_rng(seed), list[Row]()
    for number in numbers:
        name, _, attribute = number.row.rpartition(", ")
        if number.ours is None:
            continue
        shown = set(detections.filter(pc.field("phrase") == attribute)["id"].to_pylist())
        own = _training_images(dataset, name)
        drawn = [
            [row for row in own if (dataset.ids[row] in shown) is present and right[dataset.ids[row]] is present]
            for present in (True, False)
        ]
        if not all(drawn):
            continue
        pair = np.array([generator.choice(some) for some in drawn])
        seen = Seen(embedded, dataset.rows(pair), {PRETRAINED.name: embedded.heads}, method)
        cells: list[Cell] = []
        for index, present in enumerate((True, False)):
            said = seen.dataset.classes[seen.said[PRETRAINED.name][index]]
            laid = Cell(seen.laid(index, PRETRAINED.name, contour=False), (f"says {said}",), wrong=not present)
            cells += [Cell(seen.photograph(index)), laid]
        rows.append(Row(f"{name}: with {attribute} against without ({100 * number.ours:.1f} points)", cells))
    caption = (
        f"{method.title} of the labelled class under {embedded.model.spec} as it came, over training images: on the "
        f"left one with the attribute that it has right, on the right one without it that it has wrong. Drawn at "
        f"random (seed {seed}) among all such images."
    )
    return Sheet("What the model as it came relies on", ("photograph", "map") * 2, rows, caption)


def _training_images(dataset: Dataset, name: str) -> list[int]:
    rows = dataset.split_rows("train")
    return [int(row) for row in rows[dataset.labels[rows] == dataset.classes.index(name)]]
