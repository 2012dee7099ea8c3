"""Pairs that people judged spurious, and which images show them, by what the detector saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from despur.errors import WorkspaceError, nearest
from despur.pipeline.detecting import detections_path, finished_search
from despur.pipeline.embedded import Embedded
from despur.review.exchange import Imported, bring_verdicts, read_verdicts
from despur.review.judgements import Judgements
from despur.review.store import VERDICTS, VerdictStore
from despur.workspace import Workspace, read_parquet

MANY_STRUCK = 0.05
"""Share of an attribute's sightings that were struck out from which groups are warned of."""


@dataclass(frozen=True)
class SpuriousPair:
    """One class and one attribute that its prediction must not hang on.

    Attributes:
        struck: ids of images about which the detector is wrong.
    """

    class_name: str
    attribute: str
    struck: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Judged:
    """What people's verdicts amount to.

    Attributes:
        spurious: the pairs that all judges call spurious, in the order of the first verdict.
        disputed: the pairs about which they differ; nothing is done about those.
    """

    spurious: tuple[SpuriousPair, ...]
    disputed: tuple[tuple[str, str], ...]


def judgements_of(workspace: Workspace) -> Judgements:
    """What people have said so far; nothing where nobody has judged."""
    file = workspace.path(VERDICTS)
    if not file.exists():
        return Judgements()
    store = VerdictStore(file)
    try:
        return Judgements(store.events())
    finally:
        store.close()


def judged_so_far(workspace: Workspace) -> Judged:
    """The pairs of a workspace's verdicts; none where nobody has judged."""
    judgements = judgements_of(workspace)
    outcomes = {pair: judgements.outcome(pair) for pair in judgements.judged()}
    spurious = tuple(
        SpuriousPair(*pair, frozenset(judgements.struck(pair)))
        for pair, outcome in outcomes.items()
        if outcome == "spurious"
    )
    return Judged(spurious, tuple(pair for pair, outcome in outcomes.items() if outcome == "disputed"))


def judged_pairs(workspace: Workspace) -> Judged:
    """The pairs of a workspace's verdicts.

    Raises:
        WorkspaceError: no pair is called spurious.
    """
    judged = judged_so_far(workspace)
    if not judged.spurious:
        unsure = f"; judges differ on {len(judged.disputed)}" if judged.disputed else ""
        raise WorkspaceError(
            f"no pair is judged spurious{unsure}",
            where=workspace.path(VERDICTS),
            now=f"run: despur review -w {workspace.root} (or give despur mitigate --verdicts FILE; --groups classes "
            "goes by the classes alone)",
        )
    return judged


def take_verdicts(embedded: Embedded, file: Path) -> Imported:
    """:func:`bring_verdicts`, of pairs that runs can be trained by at once.

    Raises:
        DataError: the file is not one of verdicts, or a line is on no class.
        WorkspaceError: a pair that it calls spurious names what was not looked for.
    """
    spurious = {(line.class_name, line.attribute) for line in read_verdicts(file) if line.verdict == "spurious"}
    check_pairs(embedded, [SpuriousPair(*pair) for pair in sorted(spurious)])
    return bring_verdicts(embedded.workspace, file)


def presence_of(
    pairs: Sequence[SpuriousPair], detections: pa.Table, ids: Sequence[str], *, soft: bool = False
) -> Float[np.ndarray, "images pairs"]:
    """How likely each image shows each pair's attribute: whether it was seen, or with ``soft`` the highest score.

    Images that a person struck out for a pair count as the opposite.
    """
    rows = {image: row for row, image in enumerate(ids)}
    presence = np.zeros((len(ids), len(pairs)), dtype=np.float32)
    for column, pair in enumerate(pairs):
        seen = detections.filter(pc.field("phrase") == pair.attribute)
        scores = np.clip(seen["score"].to_numpy(), 0, 1) if soft else np.ones(seen.num_rows, dtype=np.float32)
        places = np.array([rows.get(image, -1) for image in seen["id"].to_pylist()], dtype=np.int64)
        np.maximum.at(presence[:, column], places[places >= 0], scores[places >= 0])
        struck = [rows[image] for image in pair.struck if image in rows]
        presence[struck, column] = 1 - presence[struck, column]
    return presence


def spurious_pairs(embedded: Embedded) -> tuple[SpuriousPair, ...]:
    """The pairs that are judged spurious, checked against what the images are and what was looked for in them.

    Raises:
        WorkspaceError: there is none, not every split was searched, or a pair is of no class of the dataset or names
            what was not looked for.
    """
    pairs = judged_pairs(embedded.workspace).spurious
    check_pairs(embedded, pairs)
    return pairs


def check_pairs(embedded: Embedded, pairs: Sequence[SpuriousPair]) -> None:
    """Refuse pairs for which detections cannot give groups; as :func:`spurious_pairs` says."""
    workspace, classes = embedded.workspace, embedded.dataset.classes
    found, searched = finished_search(workspace)
    if found.split is not None:
        raise WorkspaceError(
            f"only the split {found.split!r} was searched, and groups are needed in all of them",
            where=detections_path(workspace),
            now=f"run: despur detect -w {workspace.root} without --split",
        )
    for pair in pairs:
        if pair.class_name not in classes:
            raise WorkspaceError(
                f"a verdict is on {pair.class_name!r}, which is no class",
                where=workspace.root,
                now=nearest(pair.class_name, list(classes)),
            )
        if pair.attribute not in searched.phrases:
            raise WorkspaceError(
                f"{pair.attribute!r} is judged spurious for {pair.class_name!r}, and was never looked for",
                where=detections_path(workspace),
                now=f"run: despur detect -w {workspace.root} with a vocabulary that has it",
            )


def presence_in(
    embedded: Embedded, pairs: Sequence[SpuriousPair], *, soft: bool = False
) -> Float[np.ndarray, "images pairs"]:
    """:func:`presence_of` every image of a workspace, by its detections."""
    detections = read_parquet(detections_path(embedded.workspace)).select(["id", "phrase", "score"])
    return presence_of(pairs, detections, embedded.dataset.ids, soft=soft)


def pairs_state(workspace: Workspace) -> list[object]:
    """The pairs that are judged spurious, and their struck images, as plain values."""
    return [[pair.class_name, pair.attribute, sorted(pair.struck)] for pair in judged_pairs(workspace).spurious]


def pair_warnings(embedded: Embedded) -> list[str]:
    """What may make a workspace's groups wrong: pairs that judges differ on, and sightings that were struck out.

    A pair's groups are of its class's images, and so are its strikes: they are held against sightings in that class.

    Raises:
        WorkspaceError: as :func:`spurious_pairs`.
    """
    judged, dataset = judged_pairs(embedded.workspace), embedded.dataset
    check_pairs(embedded, judged.spurious)
    warnings = [
        f"judges differ on {name} and {attribute}; nothing is done about it" for name, attribute in judged.disputed
    ]
    as_detected = [replace(pair, struck=frozenset()) for pair in judged.spurious]
    shown = presence_in(embedded, as_detected) > 0
    ids = np.array(dataset.ids)
    for pair, seen_in in zip(judged.spurious, shown.T, strict=True):
        own = dataset.labels == dataset.classes.index(pair.class_name)
        seen, struck = int((own & seen_in).sum()), len(pair.struck.intersection(ids[own].tolist()))
        if not seen:
            warnings.append(f"{pair.attribute} was seen in no image of {pair.class_name}, which has one group alone")
        elif struck > MANY_STRUCK * seen:
            warnings.append(
                f"{struck} images were struck out for {pair.class_name} and {pair.attribute}, which was seen in "
                f"{seen:,} of that class: groups by this detector may be wrong often enough to change the result"
            )
    return warnings
