"""The stage detect: which phrases of a vocabulary are seen in which of the embedded images, and where."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Int

from despur.backbones.protocol import Backbone
from despur.birdland.detector_model import DETECTED, load_small_detector
from despur.data.examples import SPLITS, Dataset
from despur.data.images import fingerprint_images
from despur.data.quarantine import (
    MAX_UNREADABLE,
    absent_rows,
    absent_table,
    check_share,
    check_unreadable,
    quarantine_table,
)
from despur.detect import (
    DetectSettings,
    Searched,
    Vocabulary,
    column_detections,
    detect_to_table,
    encode_vocabulary,
    expect_detector,
    load_detector,
    load_vocabulary,
    named_classes,
    near_synonyms,
    read_searched,
    to_table,
    write_detections,
)
from despur.detect.protocol import Detector
from despur.detect.ray_search import ray_search
from despur.detect.schema import SCHEMA
from despur.detect.searching import SearchEngine, search_here
from despur.detect.tagger import Tagger
from despur.errors import ModelError, SettingsError, WorkspaceError, nearest
from despur.features.encode import cut
from despur.features.mirror import ShardMirror
from despur.features.predict import PREDICTED_AT_ONCE
from despur.features.ray_actors import RaySettings
from despur.pipeline.embedded import Embedded, EmbeddedImages
from despur.pipeline.embedding import table_fingerprint
from despur.pipeline.runner import is_current, run_stage
from despur.pipeline.settings import SearchSettings
from despur.workspace import Workspace, fingerprint, read_parquet, write_whole

DETECT = "detect"
COLUMN = "column"
TAGGER = "tagger"
BIRDLAND = "birdland"

OTHERS = (f"{BIRDLAND}:detector", COLUMN)
"""Detectors that this stage knows besides those that :func:`~despur.detect.load_detector` loads."""


@dataclass(frozen=True)
class Search:
    """A search that is about to begin.

    Attributes:
        embedded: where the images come from.
        settings: what was chosen.
        actors: of Ray that look; None: this process does.
        mirror: where shards are kept too.
    """

    embedded: EmbeddedImages
    settings: SearchSettings
    actors: RaySettings | None = None
    mirror: ShardMirror | None = None

    @cached_property
    def rows(self) -> Int[np.ndarray, "images"]:
        """Indices of the images that are searched."""
        split = self.settings.split
        check_split(split)
        if split is None:
            return np.arange(len(self.embedded.dataset))
        return self.embedded.dataset.split_rows(split)

    @cached_property
    def dataset(self) -> Dataset:
        """The examples that are searched."""
        return self.embedded.dataset.rows(self.rows)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What is looked for: without the names of the classes."""
        if self.settings.detector == COLUMN:
            if not self.dataset.attributes:
                self.dataset.attribute()  # tells that there is none, as to every stage
            return Vocabulary(tuple(attribute.name for attribute in self.dataset.attributes))
        vocabulary = read_vocabulary(self.settings.vocabulary)
        vocabulary = vocabulary.without(named_classes(vocabulary, self.dataset.classes))
        if self.settings.synonyms is not None and vocabulary.phrases:
            vocabulary = _without_synonyms(self.embedded, vocabulary, self.settings.synonyms)
        if not vocabulary.phrases:
            where = ", ".join(self.settings.vocabulary)
            only_named = self.settings.synonyms is None
            what = "every phrase names a class" if only_named else "every phrase names a class or is close to one"
            raise SettingsError(what, where=where, now="give another vocabulary")
        return vocabulary

    @cached_property
    def detector(self) -> Detector[Any]:
        """What looks; asked for only where it is not ``column``.

        Raises:
            SettingsError: the spec is unknown.
            ModelError: its files cannot be had, or are of another kind.
        """
        chosen, embedded = self.settings, self.embedded
        backbone = embedded.backbone if chosen.detector == TAGGER else None
        return _load_detector(chosen.detector, threshold=chosen.threshold, device=embedded.device, backbone=backbone)

    @cached_property
    def contents(self) -> list[str]:
        """Fingerprints of the images that are searched."""
        return fingerprint_images(self.dataset.image_paths(), self.embedded.progress)

    def state(self) -> str:
        """Fingerprint of everything that the outcome follows from."""
        asked = [list(self.vocabulary.phrases), [[gone.phrase, gone.reason] for gone in self.vocabulary.removed]]
        if self.settings.detector == COLUMN:
            return fingerprint(table_fingerprint(self.dataset.table), asked)
        return fingerprint(fingerprint(self.contents), self.dataset.ids, self.detector.fingerprint(), asked)

    def run(self, path: Path, settings: DetectSettings | None = None) -> Searched:
        """Look, and write the detections table to ``path``."""
        if self.settings.detector == COLUMN:
            searched = Searched(self.vocabulary.phrases, self.vocabulary.removed, (), self.state())
            write_detections(path, [column_detections(self.dataset)], searched)
            return searched
        if isinstance(self.detector, Tagger):
            return self._tag(self.detector, path)
        return detect_to_table(
            self.dataset,
            self.detector,
            self.vocabulary,
            path,
            settings,
            contents=self.contents,
            engine=self._engine(),
            mirror=self.mirror,
            progress=self.embedded.progress,
        )

    def _engine(self) -> SearchEngine:
        if self.actors is None:
            return search_here
        chosen = self.settings
        return ray_search(
            partial(_load_detector, chosen.detector, threshold=chosen.threshold, device=self.actors.device), self.actors
        )

    def _tag(self, tagger: Tagger, path: Path) -> Searched:
        """Ask the model itself, from the features that are there already: no image is read again."""
        queries = encode_vocabulary(tagger, self.vocabulary)
        ids, images = self.dataset.ids, self.dataset.table["image"].to_pylist()
        spans = cut(len(ids), PREDICTED_AT_ONCE)
        parts: list[pa.Table] = []
        failed: list[tuple[str, str, str]] = []
        steps = self.embedded.progress(spans, total=len(ids), label="tagging", unit="images", each=PREDICTED_AT_ONCE)
        for span in steps:
            found = tagger.tag(self.embedded.rows(self.rows[span.start : span.stop]), queries)
            parts.append(to_table(found, ids[span.start : span.stop], queries.phrases))
            failed += [(ids[span.start + row], images[span.start + row], found.failed[row]) for row in found.failed]
        removed = self.vocabulary.removed + queries.removed
        searched = Searched(queries.phrases, removed, tuple(failed), self.state())
        write_detections(path, parts, searched)
        return searched


def read_vocabulary(specs: Sequence[str]) -> Vocabulary:
    """The phrases of vocabularies, merged; ``birdland`` names what the built-in world's second study shows.

    Raises:
        SettingsError: a kind is unknown, or names no place.
        DataError: a file is missing, or not what its kind promises.
    """
    loaded = [spec for spec in specs if spec != BIRDLAND]
    phrases = set(load_vocabulary(loaded, others=[BIRDLAND]).phrases) if loaded else set[str]()
    return Vocabulary(tuple(sorted(phrases.union(DETECTED if BIRDLAND in specs else ()))))


def _load_detector(
    spec: str, *, threshold: float | None, device: str | torch.device, backbone: Backbone | None = None
) -> Detector[Any]:
    if is_built_in(spec):
        return load_small_detector(threshold=threshold, device=device)
    return load_detector(spec, threshold=threshold, device=device, backbone=backbone, others=OTHERS)


def is_built_in(spec: str) -> bool:
    """Whether a spec names the detector that despur brings with it.

    Raises:
        ModelError: it names another one of ``birdland``, and there is none.
    """
    kind, _, tail = spec.partition(":")
    if kind == BIRDLAND and tail not in ("", "detector"):
        raise ModelError(f"no built-in detector is called {tail!r}", where=spec, now="write birdland:detector")
    return kind == BIRDLAND


def check_split(split: str | None, *, where: str = DETECT) -> None:
    """Refuse a split that no dataset has; None stands for all of them.

    Args:
        where: the stage that it was chosen for.

    Raises:
        SettingsError: there is no such split.
    """
    if split is not None and split not in SPLITS:
        raise SettingsError(f"there is no split {split!r}", where=where, now=nearest(split, SPLITS))


def check_search(settings: SearchSettings) -> None:
    """Tell what a search cannot begin with, before any image is read and any model is built.

    Raises:
        DespurError: as :func:`detect_stage`, as far as that can be known without the images: a detector's files
            that are neither here nor within reach, too.
    """
    check_split(settings.split)
    if settings.detector == COLUMN:
        return
    read_vocabulary(settings.vocabulary)
    if not is_built_in(settings.detector):
        expect_detector(settings.detector, others=OTHERS)


def _without_synonyms(embedded: EmbeddedImages, vocabulary: Vocabulary, cosine: float) -> Vocabulary:
    """Without what the text tower of the model under study cannot tell from a class."""
    tagger = Tagger(embedded.backbone)
    queries = encode_vocabulary(tagger, vocabulary)
    readable = Vocabulary(queries.phrases, vocabulary.removed + queries.removed)
    classes = tagger.encode(embedded.dataset.classes)
    close = near_synonyms(readable, queries.encoded[:-1], classes.phrases, classes.encoded[:-1], cosine)
    return readable.without(close)


def detect_stage(
    embedded: Embedded,
    settings: SearchSettings | None = None,
    *,
    search: DetectSettings | None = None,
    actors: RaySettings | None = None,
    mirror: ShardMirror | None = None,
    max_unreadable: float = MAX_UNREADABLE,
    searched_before: Sequence[Workspace] = (),
) -> bool:
    """Write ``detections.parquet``; returns whether anything was computed. A stopped search goes on at its last shard.

    Args:
        search: batches, shards and threads; a batch's size may move a score's last bit, and none makes anything stale.
        actors: of Ray that look, here or on a cluster; None: this process does. They change nothing in the outcome.
        mirror: where the shards of a search that looks at images are kept too; it changes nothing in it either.
        max_unreadable: accepted share of images that cannot be read or judged, in [0, 1].
        searched_before: workspaces of other models; one that holds the outcome of the same search, which then hangs on
            no model, is read in its place.

    Raises:
        DataError: more than ``max_unreadable`` of the images cannot be judged; or the split or attribute is not there.
        ModelError: the detector cannot be had.
        SettingsError: the detector or a vocabulary is unknown, the detector can read no phrase, ``max_unreadable`` is
            no share, or there is no image for actors to look at.
    """
    check_share(max_unreadable)
    settings = settings or SearchSettings()
    if actors is not None and settings.detector in (COLUMN, TAGGER):
        raise SettingsError(
            f"{settings.detector} looks at no image, so that there is nothing for actors to do",
            where=DETECT,
            now="leave out --engine ray",
        )
    _ = embedded.record  # an unfinished embedding is refused, not searched
    begun = Search(embedded, settings, actors, mirror)
    path = detections_path(embedded.workspace)
    asked, state = settings.model_dump(mode="json"), begun.state()

    looks = settings.detector not in (COLUMN, TAGGER)
    sizes = (search or DetectSettings()).model_dump(exclude={"workers"}) if looks else {}
    if looks:  # A share that is not mounted must not cost the search that was made when it was.
        lost = absent_table(begun.dataset, absent_rows(begun.contents))
        check_unreadable(lost, len(begun.dataset), max_unreadable, where=begun.dataset.spec)

    def work() -> None:
        for other in searched_before:
            if is_current(other, DETECT, asked, state, [detections_path(other)]):
                with write_whole(path) as temporary:
                    shutil.copyfile(detections_path(other), temporary)
                record = other.record(DETECT)
                sizes.update({} if record is None else record.effort)
                return
        searched = begun.run(path, search)
        quarantine = quarantine_table(searched.quarantined)
        check_unreadable(quarantine, len(begun.dataset), max_unreadable, where=begun.dataset.spec)

    return run_stage(
        embedded.workspace,
        DETECT,
        settings=asked,
        inputs=state,
        outputs=[path],
        work=work,
        device=embedded.device,
        effort=lambda: sizes,
    )


def detect_objects(embedded: Embedded, dataset: Dataset, path: Path) -> pa.Table:
    """Where the detector that searched a workspace sees the classes of some of its images, by the names they go by.

    A search for shortcuts leaves the names of classes out; this is a search for nothing else. It is written to
    ``path``, and not at all where the workspace was searched by what knows no places, or there is no image.

    Raises:
        ModelError: the detector cannot be had any more.
    """
    record = embedded.workspace.record(DETECT)
    settings = None if record is None else SearchSettings.model_validate(record.settings)
    if settings is None or settings.detector in (COLUMN, TAGGER) or not len(dataset):
        path.unlink(missing_ok=True)
        return SCHEMA.empty_table()
    detector = _load_detector(settings.detector, threshold=settings.threshold, device=embedded.device)
    shown = [dataset.classes[label] for label in sorted(set(dataset.labels.tolist()))]
    names = sorted({name for of_class in shown for name in embedded.wording.names(of_class)})
    detect_to_table(dataset, detector, Vocabulary(tuple(names)), path, progress=embedded.progress)
    return read_parquet(path)


def detections_path(workspace: Workspace) -> Path:
    """Where a workspace keeps its detections."""
    return workspace.path("detections.parquet")


def count_detections(workspace: Workspace) -> int:
    """Rows of a finished ``detections.parquet``."""
    return pq.read_metadata(detections_path(workspace)).num_rows


def finished_search(workspace: Workspace) -> tuple[SearchSettings, Searched]:
    """What was looked for in a workspace, and what the table says about it.

    Raises:
        WorkspaceError: nothing was.
    """
    record = workspace.record(DETECT)
    if record is None:
        raise WorkspaceError(
            "nothing is detected yet",
            where=workspace.root,
            now=f"run: despur detect -w {workspace.root} --detector owlvit --vocabulary builtin",
        )
    return SearchSettings.model_validate(record.settings), read_searched(detections_path(workspace))
