"""Groups without group labels: from the pairs that people judged spurious and from what the detector saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float

from despur.data.examples import Attribute
from despur.errors import WorkspaceError
from despur.mitigate.membership import pair_groups
from despur.mitigate.study import Examples, Study
from despur.pipeline.detecting import detections_path, finished_search
from despur.pipeline.embedded import Embedded
from despur.pipeline.studying import make_study
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


def judged_pairs(workspace: Workspace) -> Judged:
    """The pairs of a workspace's verdicts.

    Raises:
        WorkspaceError: no pair is called spurious.
    """
    file = workspace.path(VERDICTS)
    judgements = Judgements(VerdictStore(file).events()) if file.exists() else Judgements()
    outcomes = {pair: judgements.outcome(pair) for pair in judgements.judged()}
    spurious = tuple(
        SpuriousPair(*pair, frozenset(judgements.struck(pair)))
        for pair, outcome in outcomes.items()
        if outcome == "spurious"
    )
    disputed = tuple(pair for pair, outcome in outcomes.items() if outcome == "disputed")
    if not spurious:
        unsure = f"; judges differ on {len(disputed)}" if disputed else ""
        raise WorkspaceError(
            f"no pair is judged spurious{unsure}", where=file, now=f"run: despur review -w {workspace.root}"
        )
    return Judged(spurious, disputed)


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


def make_paired_study(
    embedded: Embedded, attribute: Attribute, pairs: Sequence[SpuriousPair], *, soft: bool = False
) -> Study:
    """The study whose groups are those of the pairs.

    Args:
        attribute: of the dataset, by which runs are judged afterwards.
        soft: belong to both groups of a pair by the detector's score.

    Raises:
        WorkspaceError: not every split was searched, or a pair is of no class of the dataset.
    """
    workspace, dataset = embedded.workspace, embedded.dataset
    found, _ = finished_search(workspace)
    if found.split is not None:
        raise WorkspaceError(
            f"only the split {found.split!r} was searched, and groups are needed in training and validation",
            where=detections_path(workspace),
            now=f"run: despur detect -w {workspace.root} without --split",
        )
    unknown = [pair.class_name for pair in pairs if pair.class_name not in dataset.classes]
    if unknown:
        raise WorkspaceError(f"a verdict is on {unknown[0]!r}, which is no class", where=workspace.path(VERDICTS))
    columns = ["id", "phrase", "score"]
    presence = torch.from_numpy(
        presence_of(pairs, read_parquet(detections_path(workspace)).select(columns), dataset.ids, soft=soft)
    )
    classes = [dataset.classes.index(pair.class_name) for pair in pairs]
    labels = torch.from_numpy(dataset.labels)
    groups, shares = pair_groups(labels, presence, classes)
    plain = make_study(embedded, attribute)

    def regrouped(split: str, examples: Examples) -> Examples:
        rows = torch.from_numpy(dataset.split_rows(split))
        own = None if shares is None else shares[rows].to(embedded.device)
        return replace(examples, groups=groups[rows].to(embedded.device), shares=own)

    phrases = [text for pair in pairs for text in (pair.class_name, f"{pair.class_name} with {pair.attribute}")]
    return replace(
        plain,
        train=regrouped("train", plain.train),
        val=regrouped("val", plain.val),
        group_prompts=embedded.prompts(phrases).to(plain.class_prompts),
        phrase_prompts=embedded.prompts([pair.attribute for pair in pairs]).to(plain.class_prompts),
        pairs=tuple(zip(classes, (pair.attribute for pair in pairs), strict=True)),
    )


def pair_warnings(workspace: Workspace) -> list[str]:
    """What may make a workspace's groups wrong: pairs that judges differ on, and sightings that were struck out.

    Raises:
        WorkspaceError: no pair is called spurious.
    """
    judged = judged_pairs(workspace)
    warnings = [
        f"judges differ on {name} and {attribute}; nothing is done about it" for name, attribute in judged.disputed
    ]
    table = read_parquet(detections_path(workspace)).select(["id", "phrase"])
    for pair in judged.spurious:
        seen = len(table.filter(pc.field("phrase") == pair.attribute)["id"].unique())
        if len(pair.struck) > MANY_STRUCK * seen:
            warnings.append(
                f"{len(pair.struck)} images were struck out for {pair.class_name} and {pair.attribute}, which was seen "
                f"in {seen:,}: groups by this detector may be wrong often enough to change the result"
            )
    return warnings
