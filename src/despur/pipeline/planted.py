"""Table 3 in small, with the truth beside it: the built-in world's objects, searched and ranked without being told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from despur.backbones.protocol import Backbone
from despur.birdland.studies import DECOYS, PLANTED
from despur.birdland.write import write_objects
from despur.catalog import load_backbone
from despur.data.table import load_table
from despur.detect import DetectSettings
from despur.pipeline.detecting import SearchSettings, detect_stage
from despur.pipeline.embedded import Embedded
from despur.pipeline.embedding import embed_stage, predict_stage
from despur.pipeline.ranking import rank_stage, read_ranking
from despur.pipeline.settings import ModelSettings
from despur.pipeline.shortlisted import Row, counts_text, discrepancy_table, shown_rows
from despur.progress import Progress, silent
from despur.rank import Ranking, RankSettings
from despur.workspace import Workspace

DETECTOR = "birdland:detector"
VOCABULARY = ("builtin", "birdland")
"""Some 1,450 everyday phrases: the search does not know what was planted."""

FALSE_DISCOVERIES = 0.05
"""The share of pairs that may be shown without being real."""

SCENES, QUICK_SCENES = (1200, 240, 1200), (240, 48, 240)
"""Scenes in train, val and test."""

_TITLE = "What the model leans on, found from detections alone (Table 3 in small)"


@dataclass(frozen=True)
class Shortcuts:
    """What was found on the built-in world's objects.

    Attributes:
        workspace: where everything lies.
        ranking: every pair.
        rows: the pairs that would be shown to a person: an attribute helps, and its false-discovery rate is under 5%.
        places: for each planted pair (class, companion) its place among its class's attributes by discrepancy, from 1;
            None: it was not seen often enough.
        false_alarms: (class, decoy) of every decoy among ``rows``.
    """

    workspace: Path
    ranking: Ranking
    rows: list[Row]
    places: dict[tuple[str, str], int | None]
    false_alarms: list[tuple[str, str]]

    @property
    def missed(self) -> list[tuple[str, str]]:
        """Planted pairs that are not among ``rows``."""
        found = {(row["class"], name) for row in self.rows for name in (row["attribute"], *row["same"])}
        return [pair for pair in PLANTED.items() if pair not in found]

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json``; each row says whether it was planted."""
        rows = [
            {
                "class": row["class"],
                "attribute": row["attribute"],
                "confused_class": row["confused_class"],
                "accuracy_with": row["accuracy_with"],
                "accuracy_without": row["accuracy_without"],
                "discrepancy": row["discrepancy"],
                "ci_low": row["ci_low"],
                "ci_high": row["ci_high"],
                "q_value": row["q_value"],
                "planted": is_planted(row),
            }
            for row in self.rows
        ]
        planted = [
            {"class": name, "attribute": companion, "place": place} for (name, companion), place in self.places.items()
        ]
        return {
            "workspace": str(self.workspace),
            "rows": rows,
            "planted": planted,
            "missed": [list(pair) for pair in self.missed],
            "false_alarms": [list(pair) for pair in self.false_alarms],
        }


def is_planted(row: Row) -> bool:
    """Whether the row's attribute, or one that is seen on the same images, was planted for its class."""
    return PLANTED.get(row["class"]) in (row["attribute"], *row["same"])


def find_shortcuts(
    folder: Path,
    model: str | Backbone = "birdland:resnet",
    *,
    quick: bool = False,
    seed: int = 0,
    device: torch.device | str = "cpu",
    workers: int = 2,
    announce: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> Shortcuts:
    """Draw the study of objects, search it with the small OWL-ViT, and rank what the model's accuracy hangs on.

    Args:
        folder: for the scenes (``objects-SEED``) and the workspace (``shortcuts``); what is up to date is kept.
        model: the model under study, or its spec.
        quick: a fifth of the scenes.
        seed: of the scenes.
        workers: processes that draw; with 1 this one draws.
        announce: is told what starts, a line at a time.

    Raises:
        DespurError: the model or detector cannot be had, or the folder cannot be written.
    """
    train, val, test = QUICK_SCENES if quick else SCENES
    scenes = folder / f"objects-{train + val + test}-{seed}"
    announce("objects: drawing scenes")
    write_objects(scenes, seed=seed, train=train, val=val, test=test, workers=workers, progress=progress)
    dataset = load_table(scenes / "examples.csv")
    where = torch.device(device)
    backbone = load_backbone(model, device=where) if isinstance(model, str) else model
    workspace = Workspace.create(folder / "shortcuts", dataset=dataset.spec, model=backbone.spec)
    with workspace.lock():
        embedded = Embedded(workspace, where, backbone, progress)
        announce("objects: embed and predict")
        embed_stage(workspace, dataset, backbone, ModelSettings(spec=backbone.spec), progress=progress)
        predict_stage(embedded)
        announce("objects: detect")
        detect_stage(
            embedded,
            SearchSettings(detector=DETECTOR, vocabulary=VOCABULARY),
            search=DetectSettings(batch_size=64),
        )
        announce("objects: rank")
        rank_stage(embedded, RankSettings())
        return judged(workspace)


def judged(workspace: Workspace) -> Shortcuts:
    """A finished ranking of the study of objects, beside the truth."""
    ranking = read_ranking(workspace)
    helps, _ = shown_rows(ranking)
    rows = [row for row in helps if row["q_value"] < FALSE_DISCOVERIES]
    alarms = [(row["class"], row["attribute"]) for row in rows if row["attribute"] in DECOYS]
    return Shortcuts(workspace.root, ranking, rows, planted_places(ranking), alarms)


def planted_places(ranking: Ranking) -> dict[tuple[str, str], int | None]:
    """Each planted pair's place among its class's attributes by discrepancy, from 1; None: it was not seen."""
    places: dict[tuple[str, str], int | None] = {}
    columns = ranking.table.select(["class", "attribute", "discrepancy"]).to_pylist()
    for name, companion in PLANTED.items():
        own = [row for row in columns if row["class"] == name and row["discrepancy"] is not None]
        ordered = [row["attribute"] for row in sorted(own, key=lambda row: -row["discrepancy"])]
        places[name, companion] = ordered.index(companion) + 1 if companion in ordered else None
    return places


def shortcuts_table(found: Shortcuts) -> Table:
    """Table 3 in small for a terminal: what would be shown to a person, and whether it was planted."""
    truth = ["planted" if is_planted(row) else "not planted" for row in found.rows]
    table = discrepancy_table(found.rows, title=_TITLE, extra=("truth", truth))
    missed = "".join(f"; planted but not found: {companion} for {name}" for name, companion in found.missed)
    table.caption = f"{counts_text(found.ranking)}{missed}"
    table.caption_justify = "left"
    return table
