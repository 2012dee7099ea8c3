"""What is reviewed: the ranked pairs of a workspace, and for each of them its images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from despur.data.examples import Dataset, from_arrow
from despur.detect.table import searched_of
from despur.errors import WorkspaceError
from despur.rank import RankSettings
from despur.rank.telling import order_by_margin, telling_images
from despur.review.numbers import Numbers, pair_numbers
from despur.workspace import Workspace, read_parquet


@dataclass(frozen=True)
class Candidate:
    """A ranked pair, one a group of attributes that are seen on the same images.

    Attributes:
        key: names it in addresses, whatever its place in the ranking.
        also: the attributes that it stands for.
        n_with, n_without, accuracy_with, accuracy_without, discrepancy, q_value: as ranked, before any strike.
        shown: whether the ranking puts it before a person; the others are found by searching.
    """

    key: str
    class_name: str
    attribute: str
    also: tuple[str, ...]
    n_with: int
    n_without: int
    accuracy_with: float | None
    accuracy_without: float | None
    discrepancy: float | None
    q_value: float | None
    shown: bool

    @property
    def pair(self) -> tuple[str, str]:
        """Class and attribute."""
        return self.class_name, self.attribute

    @property
    def helps(self) -> bool:
        """Whether images with the attribute are recognised at least as often."""
        return (self.discrepancy or 0.0) >= 0.0


def key_of(class_name: str, attribute: str) -> str:
    """16 hexadecimal digits that stand for a pair in an address."""
    text = json.dumps([class_name, attribute])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def candidates_of(table: pa.Table) -> list[Candidate]:
    """The pairs of a ranking in its order, without those that another stands for."""
    followers: dict[tuple[str, str], list[str]] = {}
    grouped = table.select(["class", "attribute", "same_as"]).filter(pc.field("same_as").is_valid())
    for row in grouped.to_pylist():
        followers.setdefault((row["class"], row["same_as"]), []).append(row["attribute"])
    leaders = table.filter(pc.field("same_as").is_null())
    shown = leaders["telling_with"].is_valid().to_pylist()
    columns = ("n_with", "n_without", "accuracy_with", "accuracy_without", "discrepancy", "q_value")
    return [
        Candidate(
            key=key_of(row["class"], row["attribute"]),
            class_name=row["class"],
            attribute=row["attribute"],
            also=tuple(followers.get((row["class"], row["attribute"]), ())),
            shown=is_shown,
            **{name: row[name] for name in columns},
        )
        for row, is_shown in zip(leaders.select(["class", "attribute", *columns]).to_pylist(), shown, strict=True)
    ]


class Study:
    """The tables of a workspace, in memory, arranged so that a card takes milliseconds.

    Attributes:
        dataset: every image; an image's *row* in it is what addresses hold.
        candidates: pairs in the order of the ranking.
        version: changes whenever the images may have.
        labels: class of every image, by row.
        predicted: the class that the model says, by row; -1 where it was not asked.
        p_values: of every pair of the ranking, those that another stands for too; NaN where nothing is compared.
        place_of: where a pair stands among them.
        recounted: pairs with struck images, each with those images' ids and its numbers without them.
    """

    def __init__(
        self, dataset: Dataset, predictions: pa.Table, detections: pa.Table, ranking: pa.Table, *, version: str = ""
    ) -> None:
        settings = RankSettings.model_validate(json.loads(ranking.schema.metadata[b"despur"])["settings"])
        self.dataset, self.version = dataset, version
        self.candidates = candidates_of(ranking)
        self.by_key = {candidate.key: candidate for candidate in self.candidates}
        self.p_values = ranking["p_value"].to_numpy()
        pairs = zip(ranking["class"].to_pylist(), ranking["attribute"].to_pylist(), strict=True)
        self.place_of = {pair: place for place, pair in enumerate(pairs)}
        self.recounted: dict[tuple[str, str], tuple[frozenset[str], Candidate]] = {}
        self._ids = dataset.table["id"].combine_chunks()
        self._image_names = dataset.table["image"].combine_chunks()
        self._arrange_predictions(predictions, settings, _quarantined(detections))
        self._arrange_detections(detections, settings.min_score)

    def _arrange_predictions(self, predictions: pa.Table, settings: RankSettings, quarantined: Collection[str]) -> None:
        """Predictions by row of the dataset; the counted rows of each class, the surest errors first."""
        count = len(self.dataset)
        row, ours = self._rows(predictions["id"])
        self.predicted = np.full(count, -1, dtype=np.int64)
        self.predicted[row] = predictions["predicted"].to_numpy()[ours]
        self.labels = self.dataset.labels
        margin = np.zeros(count, dtype=np.float32)
        margin[row] = predictions["margin"].to_numpy()[ours]
        counted = self.predicted >= 0
        if settings.split is not None:
            counted &= np.asarray(self.dataset.table["split"].to_pylist(), dtype=object) == settings.split
        if quarantined:
            counted &= ~np.isin(np.asarray(self._ids.to_pylist(), dtype=object), list(quarantined))
        rows = np.flatnonzero(counted)
        self._members: dict[str, Int[np.ndarray, "rows"]] = {}
        for label, name in enumerate(self.dataset.classes):
            own = rows[self.labels[rows] == label]
            own = own[np.argsort(np.asarray(self._ids.take(pa.array(own)).to_pylist(), dtype=object), kind="stable")]
            self._members[name] = own[order_by_margin(margin[own])]

    def _arrange_detections(self, detections: pa.Table, min_score: float) -> None:
        """Detections sorted by phrase, so that one phrase's are a slice."""
        row, ours = self._rows(detections["id"])
        encoded = detections["phrase"].combine_chunks().dictionary_encode()
        phrase = encoded.indices.to_numpy()[ours]
        seen = detections["score"].to_numpy()[ours] >= min_score
        order = np.argsort(phrase[seen], kind="stable")
        names = encoded.dictionary.to_pylist()
        edges = np.searchsorted(phrase[seen][order], np.arange(len(names) + 1))
        self._sighted_rows = row[seen][order]
        self._slices = {name: slice(edges[n], edges[n + 1]) for n, name in enumerate(names)}
        corners = [detections[side].to_numpy()[ours][seen][order] for side in ("x0", "y0", "x1", "y1")]
        self._boxes = np.stack(corners, axis=1)

    def _rows(self, ids: pa.ChunkedArray) -> tuple[Int[np.ndarray, "known"], Int[np.ndarray, "known"]]:
        """Rows of the dataset for a table's ids, and which of the table's rows they are; strangers are left out."""
        lookup = pc.SetLookupOptions(value_set=self._ids)
        found = pc.call_function("index_in", [ids.combine_chunks()], lookup)
        ours = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
        return found.take(pa.array(ours)).to_numpy().astype(np.int64), ours

    def class_rows(self, class_name: str) -> Int[np.ndarray, "rows"]:
        """The counted images of a class, the surest errors first."""
        return self._members[class_name]

    def detected(self, candidate: Candidate) -> Bool[np.ndarray, "rows"]:
        """For each of ``class_rows`` whether the detector saw the attribute."""
        return np.isin(self.class_rows(candidate.class_name), self._sighted_rows[self._sightings(candidate)])

    def _sightings(self, candidate: Candidate) -> slice:
        """Where a pair's attribute stands among the sorted detections."""
        return self._slices.get(candidate.attribute, slice(0))

    def present(self, candidate: Candidate, struck: Collection[str] = ()) -> Bool[np.ndarray, "rows"]:
        """For each of ``class_rows`` whether it has the attribute: as detected, but in struck images the opposite."""
        present = self.detected(candidate)
        if struck:
            rows = [row for row in map(self.row_of, struck) if row is not None]
            present ^= np.isin(self.class_rows(candidate.class_name), rows)
        return present

    def numbers(self, candidate: Candidate, struck: Collection[str] = ()) -> Numbers:
        """Counts and accuracies of a pair; images that were struck out count on the other side."""
        rows = self.class_rows(candidate.class_name)
        predicted = self.predicted[rows]
        return pair_numbers(self.present(candidate, struck), predicted == self.labels[rows], predicted)

    def strips(self, candidate: Candidate) -> tuple[Int[np.ndarray, "with"], Int[np.ndarray, "without"]]:
        """All images with and without the attribute, those that tell the pair first.

        Struck images stay where the detector put them, so that they can be found and taken back.
        """
        rows = self.class_rows(candidate.class_name)
        present = self.detected(candidate)
        with_it, without = telling_images(np.arange(len(rows)), present, candidate.helps, len(rows))
        return rows[with_it], rows[without]

    def boxes(self, candidate: Candidate, row: int) -> Float[np.ndarray, "boxes 4"]:
        """Where the detector saw the attribute in an image, in pixels of the upright image."""
        span = self._sightings(candidate)
        boxes = self._boxes[span][self._sighted_rows[span] == row]
        return boxes[np.isfinite(boxes).all(axis=1)]

    def boxed_rows(self, candidate: Candidate) -> set[int]:
        """Images in which the detector says where the attribute is."""
        span = self._sightings(candidate)
        return set(self._sighted_rows[span][np.isfinite(self._boxes[span]).all(axis=1)].tolist())

    def row_of(self, image: str) -> int | None:
        """Row of an image's id."""
        row = int(pc.index(self._ids, image).as_py())
        return None if row < 0 else row

    def id_of(self, row: int) -> str:
        """The image's id."""
        return self._ids[row].as_py()

    def path_of(self, row: int) -> Path:
        """Where the image lies."""
        return self.dataset.root / self._image_names[row].as_py()


def _quarantined(detections: pa.Table) -> list[str]:
    if b"despur" not in (detections.schema.metadata or {}):
        return []
    return [image for image, *_ in searched_of(detections.schema).quarantined]


def read_study(workspace: Workspace) -> Study:
    """The study of a workspace.

    Raises:
        WorkspaceError: nothing is ranked yet, or a table is missing or damaged.
    """
    record = workspace.record("rank")
    if record is None:
        raise WorkspaceError("nothing is ranked yet", where=workspace.root, now=f"run: despur rank -w {workspace.root}")
    names = ("examples", "predictions", "detections", "discrepancies", "telling")
    tables = {name: read_parquet(workspace.path(f"{name}.parquet")) for name in names}
    try:
        ranking, telling = tables["discrepancies"], tables["telling"]
        for name in ("same_as", "telling_with"):
            ranking = ranking.append_column(name, telling[name])
        dataset = from_arrow(tables["examples"])
        return Study(dataset, tables["predictions"], tables["detections"], ranking, version=record.inputs[:12])
    except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise WorkspaceError(
            f"its tables do not belong together ({error})", where=workspace.root, now="run despur rank again"
        ) from error
