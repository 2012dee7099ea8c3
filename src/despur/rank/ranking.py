"""From three tables on disk to the discrepancies, in the order in which a person meets them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field

from despur.errors import SettingsError, WorkspaceError
from despur.rank.counting import PairCounts, Population, Sightings, Source, count_pairs, read_population, read_sightings
from despur.rank.order import INCOMPARABLE, Order, candidates, sides, strength
from despur.rank.shortlist import shortlist
from despur.rank.statistics import (
    accuracy_discrepancy,
    false_discovery_rate,
    fisher_exact,
    mutual_information,
    newcombe_interval,
    proportion,
)
from despur.workspace import memory_bytes, said_bytes

MEMORY = "4GB"
"""What counting may take where nobody has said."""

SCHEMA = pa.schema(
    [
        pa.field("class", pa.string(), nullable=False),
        pa.field("attribute", pa.string(), nullable=False),
        pa.field("n_with", pa.int64(), nullable=False),
        pa.field("n_without", pa.int64(), nullable=False),
        pa.field("accuracy_with", pa.float64()),
        pa.field("accuracy_without", pa.float64()),
        pa.field("discrepancy", pa.float64()),
        pa.field("ci_low", pa.float64()),
        pa.field("ci_high", pa.float64()),
        pa.field("p_value", pa.float64()),
        pa.field("q_value", pa.float64()),
        pa.field("mutual_information", pa.float64(), nullable=False),
        pa.field("confused_class", pa.string()),
        pa.field("same_as", pa.string()),
        pa.field("telling_with", pa.list_(pa.string())),
        pa.field("telling_without", pa.list_(pa.string())),
    ]
)
"""``discrepancies.parquet``. What cannot be compared (no image without, say) is null, never 0. ``same_as`` names the
attribute of the class that stands for this one, because they are seen on the same images. ``telling_*`` are ids of
images to look at; they are null in rows that are not shown."""


class RankSettings(BaseModel):
    """What is counted and what is shown.

    Attributes:
        order: see :func:`despur.rank.order.strength`.
        top: rows shown a class, on either side.
        min_count: an attribute is kept where at least this many images of the class have it (METHOD 3.3).
        split: only this split is counted; None: every image that has a prediction.
        min_score: a detection below this score was not seen.
        same: attributes of a class that overlap this much are one row; None: every attribute is its own.
        compared: rows a class and side that are compared for overlap, at least ``top``; the shown rows are the first
            ``top`` groups.
        kept_by_information: pairs of a class that the ``released`` order keeps before it sorts (METHOD 3.3).
        confidence: of the interval of a discrepancy.
        telling: ids of images a side.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    order: Order = "discrepancy"
    top: int = Field(default=5, ge=1)
    min_count: int = Field(default=10, ge=1)
    split: str | None = None
    min_score: float = Field(default=0.0, ge=0.0, le=1.0)
    same: float | None = Field(default=0.5, gt=0.0, le=1.0)
    compared: int = Field(default=25, ge=1)
    kept_by_information: int = Field(default=5, ge=1)
    confidence: float = Field(default=0.95, gt=0.0, lt=1.0)
    telling: int = Field(default=10, ge=0)


@dataclass(frozen=True)
class Ranking:
    """The discrepancies of a dataset.

    Attributes:
        table: ``SCHEMA``, every pair; first those that help, then those that hurt, then those with nothing to compare,
            each in the order asked for. Its metadata hold the three counts and the settings.
        images: images that were counted.
        unseen: how many of them have no detection at all; they count as *without* every attribute.
        quarantined: images that count nowhere.
    """

    table: pa.Table
    images: int
    unseen: int
    quarantined: int


def rank(
    predictions: Source,
    detections: Source,
    classes: Sequence[str],
    settings: RankSettings | None = None,
    *,
    examples: Source | None = None,
    quarantined: Collection[str] = (),
    memory: str = MEMORY,
    spill: Path | None = None,
) -> Ranking:
    """Discrepancies of every (class, attribute) pair (Eq. 7, METHOD section 3).

    Args:
        predictions: ``id, label, predicted, correct, margin``, an image a row.
        detections: ``id, phrase, ...``, a detection a row; several of one phrase in one image count once.
        classes: class names; labels are indices into them.
        examples: the whole dataset (``id, split``); needed for ``settings.split``.
        quarantined: ids that count nowhere.
        memory: what counting may take, as "4GB": a quarter is DuckDB's and a third the detections', which go to disk
            where they need more; the rest is for images and pairs, and for the detections of one class at a time.
        spill: an existing folder for what does not fit in memory; None: the system's for temporary files.

    Raises:
        DataError: no image to count, two predictions for one image, a class outside ``classes``, or detections of other
            images alone.
        WorkspaceError: a table that cannot be read, or no room on disk.
        SettingsError: too little memory.
    """
    with TemporaryDirectory(prefix=".rank-", dir=spill) as folder:
        return _rank(
            predictions,
            detections,
            classes,
            settings or RankSettings(),
            examples=examples,
            quarantined=quarantined,
            memory=memory_bytes(memory),
            spill=Path(folder),
        )


def _rank(
    predictions: Source,
    detections: Source,
    classes: Sequence[str],
    settings: RankSettings,
    *,
    examples: Source | None,
    quarantined: Collection[str],
    memory: int,
    spill: Path,
) -> Ranking:
    # Neither table's order matters: images are numbered by class and id, and detections are sorted here.
    connection = duckdb.connect(
        config={"memory_limit": f"{memory // 4}B", "preserve_insertion_order": False, "temp_directory": str(spill)}
    )
    # In a notebook without widgets there is no bar, and DuckDB refuses to be told so.
    if connection.execute("SELECT current_setting('enable_progress_bar')").fetchall() == [(True,)]:
        connection.execute("SET enable_progress_bar = false")
    try:
        with connection:
            population = read_population(
                connection,
                predictions,
                len(classes),
                examples=examples,
                split=settings.split,
                quarantined=quarantined,
            )
            sightings = read_sightings(
                connection,
                detections,
                population,
                len(classes),
                min_score=settings.min_score,
                held=memory // 3,
                spill=spill,
            )
    except duckdb.OutOfMemoryException as problem:
        raise SettingsError(
            f"{said_bytes(memory)} of memory are too little to count these tables",
            where="rank",
            now="raise --memory, and see that there is room on disk",
        ) from problem
    except duckdb.Error as problem:
        reason = str(problem).splitlines()[0]
        raise WorkspaceError(f"the tables cannot be counted ({reason})", now="run the stages again") from problem
    counts = count_pairs(population, sightings, min_count=settings.min_count)
    table = _table(population, sightings, counts, classes, settings)
    about = {
        "images": len(population),
        "unseen": sightings.unseen,
        "quarantined": population.quarantined,
        "settings": settings.model_dump(),
    }
    table = table.replace_schema_metadata({"despur": json.dumps(about)})
    return Ranking(table, len(population), sightings.unseen, population.quarantined)


def helping(table: pa.Table) -> pa.Table:
    """The rows to show where an attribute goes with *fewer* errors: the shortcut candidates."""
    return table.filter(pc.field("telling_with").is_valid() & (pc.field("discrepancy") >= 0.0))


def hurting(table: pa.Table) -> pa.Table:
    """The rows to show where an attribute goes with *more* errors."""
    return table.filter(pc.field("telling_with").is_valid() & (pc.field("discrepancy") < 0.0))


def _table(
    population: Population, sightings: Sightings, counts: PairCounts, classes: Sequence[str], settings: RankSettings
) -> pa.Table:
    """All columns of ``SCHEMA``, in order."""
    four = (counts.correct_with, counts.n_with, counts.correct_without, counts.n_without)
    delta = accuracy_discrepancy(*four)
    low, high = newcombe_interval(*four, confidence=settings.confidence)
    p_value = fisher_exact(*four)
    information = mutual_information(*four)
    side = sides(delta)
    strengths = strength(settings.order, delta, low, high, information)
    chosen = candidates(
        settings.order,
        counts.label,
        counts.phrase,
        side,
        strengths,
        information,
        per_class=max(settings.compared, settings.top),
        kept_by_information=settings.kept_by_information,
    )
    strengths = np.where(side == INCOMPARABLE, 0.0, strengths)
    later = ~chosen if settings.order == "released" else np.zeros(len(counts), dtype=np.bool_)
    order = np.lexsort((counts.label, counts.phrase, -strengths, later, side))
    leader, shown = shortlist(
        population,
        sightings,
        counts,
        side,
        order[chosen[order]],
        same=settings.same,
        top=settings.top,
        telling=settings.telling,
    )

    phrases = pa.array(sightings.phrases, type=pa.string())
    names = pa.array(classes, type=pa.string())
    follows = leader != np.arange(len(counts))
    place = np.argsort(order)
    told = {int(place[row.pair]): row for row in shown}
    # Numbers are put in order before there are strings and lists of them, which would take longer to move.
    columns = {
        "class": names.take(pa.array(counts.label[order])),
        "attribute": phrases.take(pa.array(counts.phrase[order])),
        "n_with": counts.n_with[order],
        "n_without": counts.n_without[order],
        "accuracy_with": _nullable(proportion(counts.correct_with, counts.n_with)[order]),
        "accuracy_without": _nullable(proportion(counts.correct_without, counts.n_without)[order]),
        "discrepancy": _nullable(delta[order]),
        "ci_low": _nullable(low[order]),
        "ci_high": _nullable(high[order]),
        "p_value": _nullable(p_value[order]),
        "q_value": _nullable(false_discovery_rate(p_value)[order]),
        "mutual_information": information[order],
        "confused_class": names.take(pa.array(counts.confused[order], mask=counts.confused[order] < 0)),
        "same_as": phrases.take(pa.array(counts.phrase[leader][order], mask=~follows[order])),
        "telling_with": _id_lists(population.ids, len(counts), {at: row.telling_with for at, row in told.items()}),
        "telling_without": _id_lists(
            population.ids, len(counts), {at: row.telling_without for at, row in told.items()}
        ),
    }
    return pa.table(columns, schema=SCHEMA)


def _nullable(values: Float[np.ndarray, "pairs"]) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))


def _id_lists(ids: pa.ChunkedArray, pairs: int, rows: dict[int, Int[np.ndarray, "telling"]]) -> pa.Array:
    """A list of ids for each pair that has rows, null for the others."""
    lengths = np.zeros(pairs, dtype=np.int32)
    for pair, images in rows.items():
        lengths[pair] = len(images)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    chosen = np.concatenate([np.zeros(0, dtype=np.int64), *(rows[pair] for pair in sorted(rows))])
    missing = np.ones(pairs, dtype=np.bool_)
    missing[list(rows)] = False
    values = pa.concat_arrays(ids.take(pa.array(chosen)).chunks or [pa.array([], type=pa.string())])
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(missing))
