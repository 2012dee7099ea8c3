"""Counting what was seen where: DuckDB reads the tables once, and every (class, attribute) pair becomes a run of rows.

Images are numbered so that those of one class are neighbours. A detection is then one integer that holds its class, its
phrase and its image; sorted, the integers hold each pair's images side by side, duplicates next to each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from despur.errors import DataError, WorkspaceError

Source = pa.Table | Path
"""A table in memory, or the Parquet file that holds it."""

BATCH_ROWS = 1 << 20


@dataclass(frozen=True)
class Population:
    """The images that are counted, those of one class side by side.

    Attributes:
        ids: an id an image; within a class in ascending order.
        label, predicted: class indices.
        correct: whether they agree.
        margin: score of the label minus the best other class's.
        bounds: the images of class c are ``bounds[c]:bounds[c + 1]``.
        quarantined: images of the dataset that are left out, because no prediction or no detection could be had.
    """

    ids: pa.ChunkedArray
    label: Int[np.ndarray, "images"]
    predicted: Int[np.ndarray, "images"]
    correct: Bool[np.ndarray, "images"]
    margin: Float[np.ndarray, "images"]
    bounds: Int[np.ndarray, "bounds"]
    quarantined: int

    def __len__(self) -> int:
        return len(self.label)

    def of_class(self, label: int) -> slice:
        """The class's images among all."""
        return slice(int(self.bounds[label]), int(self.bounds[label + 1]))


@dataclass(frozen=True)
class KeyFile:
    """Keys on disk, of which a slice is read when it is asked for."""

    path: Path

    def __getitem__(self, rows: slice) -> Int[np.ndarray, "rows"]:
        start = int(rows.start)
        return np.fromfile(self.path, dtype=np.int64, count=int(rows.stop) - start, offset=8 * start)


@dataclass(frozen=True)
class Sightings:
    """Which images of which class were seen with which phrase, each image once.

    Attributes:
        phrases: every phrase that was seen at all, sorted.
        keys: ``((label * phrases + phrase) << bits) | image``, ascending; duplicates are still in it. In memory, or in
            a file that must outlive this.
        bits: how many low bits hold the image.
        bounds: the sightings of class c are ``keys[bounds[c]:bounds[c + 1]]``.
        unseen: images in which nothing was seen; they count as *without* every attribute.
    """

    phrases: list[str]
    keys: Int[np.ndarray, "detections"] | KeyFile
    bits: int
    bounds: Int[np.ndarray, "bounds"]
    unseen: int

    def of_class(self, label: int) -> tuple[Int[np.ndarray, "seen"], Int[np.ndarray, "seen"]]:
        """Phrase and image of every sighting in a class, ordered by phrase, then image; each once."""
        keys = self.keys[self.bounds[label] : self.bounds[label + 1]]
        if len(keys):
            keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
        return (keys >> self.bits) - label * len(self.phrases), keys & ((1 << self.bits) - 1)


def _relation(connection: duckdb.DuckDBPyConnection, source: Source, columns: str) -> duckdb.DuckDBPyRelation:
    """The named columns of a table, read when they are asked for."""
    try:
        if isinstance(source, Path):
            return connection.read_parquet(str(source)).select(columns)
        return connection.from_arrow(source).select(columns)
    except duckdb.Error as problem:
        where = source if isinstance(source, Path) else None
        reason = str(problem).splitlines()[0]
        raise WorkspaceError(
            f"the table cannot be read ({reason})", where=where, now="run the stage again"
        ) from problem


def read_population(
    connection: duckdb.DuckDBPyConnection,
    predictions: Source,
    classes: int,
    *,
    examples: Source | None = None,
    split: str | None = None,
    quarantined: Collection[str] = (),
) -> Population:
    """The images that are counted.

    Args:
        predictions: with ``id, label, predicted, correct, margin``.
        classes: how many classes there are; labels lie in [0, classes).
        examples: the whole dataset, with ``id, split``; what it holds and ``predictions`` lacks counts as quarantined.
        split: only this split of ``examples``.
        quarantined: ids that count nowhere, whatever the tables say.

    Raises:
        DataError: two predictions for one image, a class outside the classes, or no image at all.
    """
    everything = _relation(connection, predictions, "id, label, predicted, correct, margin")
    everything.create_view("predicted_images")
    banned = pa.table({"id": pa.array(list(quarantined), type=pa.string())})
    connection.from_arrow(banned).create_view("banned")
    where = "id NOT IN (SELECT id FROM banned)"
    expected = None
    if examples is not None:
        listed = _relation(connection, examples, "id, split")
        listed.filter("true" if split is None else f"split = '{_quoted(split)}'").create_view("listed")
        where += " AND id IN (SELECT id FROM listed)"
        expected = _one(connection, "SELECT count(*) FROM listed")
    kept = connection.sql(f"SELECT * FROM predicted_images WHERE {where} ORDER BY label, id").to_arrow_table()
    count = kept.num_rows
    if count == 0:
        raise DataError("no image is left to count", now="check the split, and that the model's predictions exist")
    if _one(connection, "SELECT count(*) - count(DISTINCT id) FROM predicted_images"):
        raise DataError("two predictions have the same id", now="make the ids of the dataset unique")
    label, predicted = (kept[name].to_numpy().astype(np.int64) for name in ("label", "predicted"))
    for name, values in (("label", label), ("predicted", predicted)):
        outside = values[(values < 0) | (values >= classes)]
        if len(outside):
            raise DataError(
                f"{name} {outside[0]} is not among the {classes} classes (0 to {classes - 1})",
                now="name every class, in the order of the labels",
            )
    left_out = (
        _one(connection, "SELECT count(*) FROM predicted_images WHERE id IN (SELECT id FROM banned)")
        if expected is None
        else expected - count
    )
    return Population(
        ids=kept["id"],
        label=label,
        predicted=predicted,
        correct=kept["correct"].to_numpy().astype(np.bool_),
        margin=kept["margin"].to_numpy().astype(np.float32),
        bounds=np.searchsorted(label, np.arange(classes + 1)),
        quarantined=left_out,
    )


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(connection.sql(query).fetchall()[0][0])


def read_sightings(
    connection: duckdb.DuckDBPyConnection,
    detections: Source,
    population: Population,
    classes: int,
    *,
    min_score: float = 0.0,
    held: int | None = None,
    spill: Path | None = None,
) -> Sightings:
    """One scan of the detections; those of images outside the population, or below ``min_score``, are passed over.

    Args:
        held: bytes that keys may take in memory; where they take more, DuckDB sorts them, on disk if it must, and they
            stay there. None: any number.
        spill: the folder for them.

    Raises:
        DataError: every detection is of an image that nothing is predicted of.
    """
    columns = "id, phrase" if min_score <= 0.0 else "id, phrase, score"
    seen = _relation(connection, detections, columns)
    if min_score > 0.0:
        # DuckDB holds what is not a number for larger than any.
        seen = seen.filter(f"score >= {min_score!r} AND NOT isnan(score)")
    seen.create_view("seen")
    connection.execute("CREATE TEMP TABLE phrases AS SELECT DISTINCT phrase FROM seen")
    phrases: list[str] = [row[0] for row in connection.sql("SELECT phrase FROM phrases ORDER BY phrase").fetchall()]
    bits = max(len(population) - 1, 1).bit_length()
    numbered = pa.table({"phrase": pa.array(phrases, type=pa.string()), "part": np.arange(len(phrases)) << bits})
    connection.from_arrow(numbered).create_view("numbered")
    bases = ((population.label * len(phrases)) << bits) | np.arange(len(population))
    connection.from_arrow(pa.table({"id": population.ids, "base": bases})).create_view("listed_images")
    query = f"""
        SELECT base + part AS key
        FROM (SELECT {_join_on(connection, len(population))} AS image, phrase FROM seen)
        JOIN images USING (image) JOIN numbered USING (phrase)
    """
    any_seen = np.zeros(len(population), dtype=np.bool_)
    found = _one(connection, "SELECT count(*) FROM seen")
    on_disk = spill is not None and held is not None and 8 * found > held

    # The lowest key that each class could have, and one past the last.
    starts = (np.arange(classes + 1) * len(phrases)) << bits
    bounds = np.zeros(classes + 1, dtype=np.int64)

    def noted() -> Iterator[Int[np.ndarray, "rows"]]:
        for batch in _batches(connection, f"{query} ORDER BY key" if on_disk else query):
            any_seen[batch & ((1 << bits) - 1)] = True
            if on_disk:
                bounds[:] += np.searchsorted(batch, starts)
            yield batch

    keys: Int[np.ndarray, "detections"] | KeyFile
    if spill is not None and on_disk:
        keys = _write_keys(noted(), spill / "keys.i64")
    else:
        keys = _hold_keys(noted(), found)
        keys.sort()
        bounds = np.searchsorted(keys, starts)
    if found and not bounds[-1]:
        _check_same_images(connection, found)
    return Sightings(phrases, keys, bits, bounds, int(len(population) - any_seen.sum()))


def _check_same_images(connection: duckdb.DuckDBPyConnection, found: int) -> None:
    """Refuse another dataset's detections, which would all be passed over."""
    if not _one(connection, "SELECT count(*) FROM seen SEMI JOIN predicted_images USING (id)"):
        example = connection.sql("SELECT min(id) FROM seen").fetchall()[0][0]
        raise DataError(
            f"none of the {found} detections is of an image with a prediction (the first is of {example!r})",
            now="are they another dataset's, or are the ids written in another way?",
        )


def _join_on(connection: duckdb.DuckDBPyConnection, images: int) -> str:
    """Make the table ``images`` (image, base), and say what of a detection is its ``image`` there: a hash of its id.

    Hashes take a fraction of the memory of ids, so that the join of ten million images needs no disk. No two images
    that are counted share one, or ids are joined after all; that an image outside the population shares one with any
    inside has a probability of images / 2^64.
    """
    connection.execute("CREATE TEMP TABLE images AS SELECT hash(id) AS image, base FROM listed_images")
    if _one(connection, "SELECT count(DISTINCT image) FROM images") == images:
        return "hash(id)"
    connection.execute("CREATE OR REPLACE TEMP TABLE images AS SELECT id AS image, base FROM listed_images")
    return "id"


def _hold_keys(batches: Iterator[Int[np.ndarray, "rows"]], most: int) -> Int[np.ndarray, "detections"]:
    keys = np.empty(most, dtype=np.int64)
    filled = 0
    for batch in batches:
        keys[filled : filled + len(batch)] = batch
        filled += len(batch)
    return keys[:filled]


def _write_keys(batches: Iterator[Int[np.ndarray, "rows"]], path: Path) -> KeyFile:
    with path.open("wb") as file:
        for batch in batches:
            batch.astype(np.int64, copy=False).tofile(file)
    return KeyFile(path)


def _batches(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[Int[np.ndarray, "rows"]]:
    for batch in pa.RecordBatchReader.from_stream(connection.sql(query)):
        yield batch.column(0).to_numpy(zero_copy_only=False)


@dataclass(frozen=True)
class PairCounts:
    """Counts of (class, attribute) pairs, one entry a pair, ordered by class, then phrase.

    Attributes:
        label, phrase: class index, and index into ``Sightings.phrases``.
        n_with, n_without: images of the class with and without the attribute.
        correct_with, correct_without: how many of them the model gets right.
        confused: the most frequent wrong class among images without the attribute (the lowest index among equals);
            -1 where there is no error.
    """

    label: Int[np.ndarray, "pairs"]
    phrase: Int[np.ndarray, "pairs"]
    n_with: Int[np.ndarray, "pairs"]
    n_without: Int[np.ndarray, "pairs"]
    correct_with: Int[np.ndarray, "pairs"]
    correct_without: Int[np.ndarray, "pairs"]
    confused: Int[np.ndarray, "pairs"]

    def __len__(self) -> int:
        return len(self.label)


def count_pairs(population: Population, sightings: Sightings, *, min_count: int = 1) -> PairCounts:
    """Counts of every pair that was seen in at least ``min_count`` images (METHOD 3.3); class by class, so that what is
    worked on stays in the processor's cache.
    """
    parts = [
        _count_class(population, sightings, label, max(min_count, 1)) for label in range(len(population.bounds) - 1)
    ]
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    return PairCounts(*columns)


def _count_class(
    population: Population, sightings: Sightings, label: int, min_count: int
) -> tuple[Int[np.ndarray, "pairs"], ...]:
    """The columns of :class:`PairCounts` for one class."""
    own = population.of_class(label)
    correct = population.correct[own]
    phrase, image = sightings.of_class(label)
    image = image - own.start
    edges = np.flatnonzero(np.diff(phrase, prepend=-1, append=len(sightings.phrases)))
    n_with = np.diff(edges)
    right = np.concatenate([[0], np.cumsum(correct[image])])
    correct_with = np.diff(right[edges])
    keep = np.flatnonzero(n_with >= min_count)
    n_with, correct_with = n_with[keep], correct_with[keep]
    n_without = len(correct) - n_with
    confused = _confused_classes(population.predicted[own], correct, image, edges, keep)
    return (
        np.full(len(keep), label),
        phrase[edges[keep]],
        n_with,
        n_without,
        correct_with,
        int(correct.sum()) - correct_with,
        confused,
    )


def _confused_classes(
    predicted: Int[np.ndarray, "images"],
    correct: Bool[np.ndarray, "images"],
    image: Int[np.ndarray, "seen"],
    edges: Int[np.ndarray, "edges"],
    keep: Int[np.ndarray, "pairs"],
) -> Int[np.ndarray, "pairs"]:
    """Most frequent wrong class among images *without* each kept attribute: all the class's errors minus those with."""
    wrong = predicted[~correct]
    if len(wrong) == 0:
        return np.full(len(keep), -1)
    # Classes are small numbers: counting them finds the distinct ones in a fraction of a sort's time.
    is_wrong = np.bincount(wrong) > 0
    wrong_classes = np.flatnonzero(is_wrong)
    kind = (np.cumsum(is_wrong) - 1)[wrong]
    kinds = len(wrong_classes)
    # Right answers go to one column more, which is then dropped.
    column = np.full(len(predicted), kinds)
    column[~correct] = kind
    pair = np.full(len(edges) - 1, -1)
    pair[keep] = np.arange(len(keep))
    pair_of_row = np.repeat(pair, np.diff(edges))
    kept = pair_of_row >= 0
    cells = pair_of_row[kept] * (kinds + 1) + column[image[kept]]
    errors_with = np.bincount(cells, minlength=len(keep) * (kinds + 1)).reshape(len(keep), kinds + 1)[:, :kinds]
    errors_without = np.bincount(kind, minlength=kinds) - errors_with
    return np.where(errors_without.max(axis=1) > 0, wrong_classes[errors_without.argmax(axis=1)], -1)
