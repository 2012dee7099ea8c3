"""Verifies every file of a workspace, and takes away what is not what was written, so that only that is computed again.

A bad shard of the features goes alone: the others are kept. What embed, predict and detect wrote is computed again at
once, from the settings that ``workspace.json`` holds; of the other stages the next run computes what is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from despur.catalog import choose_device, load_backbone, load_dataset
from despur.detect import DetectSettings
from despur.errors import WorkspaceError
from despur.features.engine import EmbedSettings
from despur.features.store import INDEX, damaged_shards
from despur.pipeline.detecting import DETECT, SearchSettings, detect_stage
from despur.pipeline.embedded import EMBED, PREDICT, Embedded
from despur.pipeline.embedding import embed_stage, predict_stage
from despur.pipeline.order import in_order
from despur.pipeline.runner import damaged_outputs
from despur.pipeline.settings import ModelSettings
from despur.progress import Progress, silent
from despur.workspace import StageRecord, Workspace

COMPUTED_AGAIN = (EMBED, PREDICT, DETECT)
"""Stages that are computed again by :func:`repair`, in their order."""


@dataclass(frozen=True)
class Damage:
    """A file that is gone or holds other bytes than were written.

    Attributes:
        stage: who wrote it, as ``workspace.json`` names it.
        file: its place in the workspace.
    """

    stage: str
    file: str


def verify(workspace: Workspace) -> list[Damage]:
    """Every file that a finished stage wrote and that is not what it wrote, in the order of the stages.

    Files of a stage that an earlier despur finished carry no checksum and are not looked at; shards of features always
    carry one.

    Raises:
        WorkspaceError: ``workspace.json`` itself is damaged, or the features' index of an earlier despur.
    """
    records = workspace.about()["stages"]
    return [
        Damage(stage, path.relative_to(workspace.root).as_posix())
        for stage in in_order(records)
        for path in _damaged(workspace, stage, records[stage])
    ]


def _damaged(workspace: Workspace, stage: str, record: StageRecord) -> list[Path]:
    files = damaged_outputs(workspace, record, [workspace.path(place) for place in record.outputs])
    folder = workspace.path("features")
    if stage == EMBED and folder / INDEX not in files:  # a damaged index knows nothing of its shards
        files += damaged_shards(folder)
    return files


@dataclass(frozen=True)
class Repaired:
    """What :func:`repair` found and did.

    Attributes:
        damaged: what was not what was written; it was taken away.
        computed: stages whose files are whole again.
        changed: those of them whose files came out with other bytes than before, as on another device or with another
            version of torch; later stages hold what they made of the earlier ones.
        left: stages that the next ``despur run``, or their own command, computes again.
    """

    damaged: tuple[Damage, ...]
    computed: tuple[str, ...]
    changed: tuple[str, ...]
    left: tuple[str, ...]


def repair(
    workspace: Workspace, *, allow_outside: bool = False, device: str = "auto", progress: Progress = silent
) -> Repaired:
    """Take away what is damaged and compute it again; called by whoever holds the workspace's lock.

    Args:
        allow_outside: let the dataset's table name images outside its own folder, as when they were embedded.

    Raises:
        WorkspaceError: ``workspace.json`` is damaged, a file cannot be taken away, or the dataset or the model is not
            what the features were computed from.
        DespurError: the dataset or the model that the workspace names cannot be had any more.
    """
    found = verify(workspace)
    written = workspace.about()["stages"]
    for damage in found:
        _remove(workspace.path(damage.file))
    stages = list(dict.fromkeys(damage.stage for damage in found))
    computed = [stage for stage in COMPUTED_AGAIN if stage in stages]
    if computed:
        _compute(workspace, computed, allow_outside, device, progress)
    left = [stage for stage in stages if stage not in computed]
    now = workspace.about()["stages"]
    changed = [stage for stage in computed if written[stage].outputs and written[stage].outputs != now[stage].outputs]
    return Repaired(tuple(found), tuple(computed), tuple(changed), tuple(left))


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise WorkspaceError("it is damaged and cannot be deleted", where=file, now="check who owns it") from error


def _compute(workspace: Workspace, stages: list[str], allow_outside: bool, device: str, progress: Progress) -> None:
    """The stages again, each with the settings of its record."""
    about = workspace.about()
    if EMBED not in about["stages"]:
        raise WorkspaceError("no images are embedded yet", where=workspace.root, now="run the stages again")
    before = about["stages"][EMBED]
    embedded_with = before.settings
    try:
        model = ModelSettings.model_validate(embedded_with["model"])
        embed = EmbedSettings.model_validate(embedded_with["embed"])
        searched = about["stages"][DETECT] if DETECT in stages else None
        search = None if searched is None else SearchSettings.model_validate(searched.settings)
        sizes = None if searched is None else DetectSettings.model_validate(searched.effort)
    except (KeyError, ValidationError) as error:
        raise WorkspaceError(
            "it does not say how it was embedded", where=workspace.root, now="run the stages again"
        ) from error
    where = choose_device(device)
    backbone = load_backbone(
        model.spec,
        random_weights=model.random_weights,
        trainable=model.trainable,
        device=where,
        seed=model.seed,
    )
    if EMBED in stages:
        if about["dataset"] is None:
            raise WorkspaceError("it names no dataset", where=workspace.root, now="embed again")
        dataset = load_dataset(
            about["dataset"], seed=model.seed, allow_outside=allow_outside, folder=workspace.root, progress=progress
        )
        # How many images may be unreadable was decided when these same ones were embedded.
        embed_stage(workspace, dataset, backbone, model, settings=embed, max_unreadable=1.0, progress=progress)
        _check_same(workspace, before)
    embedded = Embedded(workspace, where, backbone, progress)
    if PREDICT in stages:
        predict_stage(embedded)
    if search is not None:
        detect_stage(embedded, search, search=sizes, max_unreadable=1.0)


def _check_same(workspace: Workspace, before: StageRecord) -> None:
    """Tell where what was embedded now is not what was embedded before: the other stages do not fit it."""
    now = workspace.record(EMBED)
    if now is None or now.inputs != before.inputs:
        raise WorkspaceError(
            "the images, their table or the model are not what they were when they were embedded first; they are"
            " embedded anew, and what was computed from the old features is out of date",
            where=workspace.root,
            now="run the later stages again",
        )
