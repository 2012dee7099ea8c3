"""The stage rank: which attributes of a class's images the model's accuracy hangs on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from despur.data.quarantine import count_quarantined
from despur.detect.table import searched_of
from despur.errors import SettingsError, WorkspaceError
from despur.features.encode import cut
from despur.features.predict import PREDICTED_AT_ONCE, predict
from despur.pipeline.detecting import DETECT, check_split, detections_path, finished_search
from despur.pipeline.embedded import PREDICT, Embedded, EmbeddedImages
from despur.pipeline.runner import run_stage, stage_state
from despur.rank import MEMORY, SCHEMA, Ranking, RankSettings, rank
from despur.workspace import Workspace, fingerprint, memory_bytes, read_parquet, write_parquet

RANK = "rank"
SPLIT = b"split"
"""Key of a detections table's metadata that names the one split that was searched."""

COLUMNS = SCHEMA.names[: SCHEMA.get_field_index("confused_class") + 1]
"""``discrepancies.parquet``: what is known of every pair."""

TELLING = ["class", "attribute", *SCHEMA.names[len(COLUMNS) :]]
"""``telling.parquet``, row by row beside it: which pair stands for this one, and images that show it."""


def rank_stage(embedded: Embedded, settings: RankSettings | None = None, *, memory: str = MEMORY) -> bool:
    """Write ``discrepancies.parquet`` and ``telling.parquet``; returns whether anything was computed.

    Args:
        memory: what counting may take; what does not fit is put on disk, inside the workspace.

    Raises:
        WorkspaceError: a stage that it reads has not run.
        SettingsError: there is no such split, another one was searched, or memory does not suffice.
        DataError: there is no image to count.
    """
    memory_bytes(memory)  # told before anything is read
    workspace = embedded.workspace
    found, searched = finished_search(workspace)
    settings = within(settings or RankSettings(), found.split)
    if workspace.record(PREDICT) is None:
        raise WorkspaceError(
            "nothing is predicted yet", where=workspace.root, now=f"run: despur predict -w {workspace.root}"
        )

    def work() -> None:
        ranking = rank(
            workspace.path("predictions.parquet"),
            detections_path(workspace),
            embedded.dataset.classes,
            settings,
            examples=workspace.path("examples.parquet"),
            quarantined=[name for name, *_ in searched.quarantined],
            memory=memory,
            spill=workspace.root,
        )
        table = _with_unreadable(ranking, embedded, settings.split).table
        write_parquet(workspace.path("telling.parquet"), table.select(TELLING))
        write_parquet(workspace.path("discrepancies.parquet"), table.select(COLUMNS))

    return run_stage(
        workspace,
        RANK,
        settings=settings.model_dump(mode="json"),
        inputs=fingerprint(embedded.state, stage_state(workspace, PREDICT), stage_state(workspace, DETECT)),
        outputs=[workspace.path("discrepancies.parquet"), workspace.path("telling.parquet")],
        work=work,
    )


def ranked(embedded: EmbeddedImages, detections: pa.Table, settings: RankSettings) -> Ranking:
    """The same in memory, from a table of detections; images that its metadata name as quarantined count nowhere.

    Raises:
        SettingsError: there is no such split, or another one was searched.
        DataError: there is no image to count.
    """
    known = detections.schema.metadata or {}
    searched = searched_of(detections.schema) if b"despur" in known else None
    dataset = embedded.dataset
    batches = ((span, embedded.rows(np.arange(span.start, span.stop))) for span in cut(len(dataset), PREDICTED_AT_ONCE))
    predictions = predict(dataset.ids, dataset.labels, batches, embedded.heads, embedded.class_prompts)
    settings = within(settings, known[SPLIT].decode() if SPLIT in known else None)
    ranking = rank(
        predictions,
        detections,
        dataset.classes,
        settings,
        examples=dataset.table,
        quarantined=[] if searched is None else [name for name, *_ in searched.quarantined],
    )
    return _with_unreadable(ranking, embedded, settings.split)


def _with_unreadable(ranking: Ranking, embedded: EmbeddedImages, split: str | None) -> Ranking:
    """Count the images of the split that could not be embedded, too: the ranking knows those alone that could."""
    quarantined = ranking.quarantined + count_quarantined(embedded.quarantine, split)
    about = {**json.loads(ranking.table.schema.metadata[b"despur"]), "quarantined": quarantined}
    table = ranking.table.replace_schema_metadata({"despur": json.dumps(about)})
    return replace(ranking, table=table, quarantined=quarantined)


def within(settings: RankSettings, searched: str | None) -> RankSettings:
    """Settings that count only what was searched: elsewhere "not seen" would mean "not looked for".

    Args:
        searched: the one split that was; None: all were.

    Raises:
        SettingsError: another split is to be counted, or one that no dataset has.
    """
    check_split(settings.split, where=RANK)
    if searched is None or settings.split == searched:
        return settings
    if settings.split is None:
        return settings.model_copy(update={"split": searched})
    raise SettingsError(
        f"only the split {searched!r} was searched, and {settings.split!r} is to be counted",
        where=RANK,
        now="search it too: despur detect without --split",
    )


def read_ranking(workspace: Workspace) -> Ranking:
    """The finished ranking, every column of :data:`despur.rank.SCHEMA`.

    Raises:
        WorkspaceError: it has not run, or its files are damaged.
    """
    if workspace.record(RANK) is None:
        raise WorkspaceError("nothing is ranked yet", where=workspace.root, now=f"run: despur rank -w {workspace.root}")
    table = _read(workspace.path("discrepancies.parquet"), COLUMNS)
    telling = _read(workspace.path("telling.parquet"), TELLING)
    if table.num_rows != telling.num_rows:
        raise WorkspaceError(
            "it does not belong to discrepancies.parquet",
            where=workspace.path("telling.parquet"),
            now="delete it and run despur rank",
        )
    about: dict[str, Any] = json.loads(table.schema.metadata[b"despur"])
    for name in TELLING[2:]:
        table = table.append_column(telling.schema.field(name), telling[name])
    return Ranking(table, about["images"], about["unseen"], about["quarantined"])


def _read(path: Path, columns: list[str]) -> pa.Table:
    table = read_parquet(path)
    if table.column_names != columns or b"despur" not in (table.schema.metadata or {}):
        raise WorkspaceError(
            "it has other columns than despur rank writes", where=path, now="delete it and run despur rank"
        )
    return table
