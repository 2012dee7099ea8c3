"""The stage evaluate: ``metrics.json`` of every run on a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from despur.backbones.heads import Heads
from despur.data.examples import Dataset
from despur.errors import WorkspaceError
from despur.explain.measure import ELSEWHERE, ON_OBJECT, explanation_report
from despur.features.encode import cut
from despur.features.predict import PREDICTED_AT_ONCE, predict
from despur.metrics import AccuracyReport, accuracy_report
from despur.mitigate.methods.pretrained import PRETRAINED
from despur.mitigate.runs import Run
from despur.pipeline.embedded import Embedded, EmbeddedImages
from despur.pipeline.grouping import Grouping, Source, grouping_of, grouping_state
from despur.pipeline.runner import run_stage, stage_state
from despur.pipeline.training import load_runs, run_names
from despur.workspace import Workspace, fingerprint, fingerprint_file, read_object, read_parquet, write_json

EXPLANATIONS = "explanations.parquet"
CHECKS = "checks.json"
RETAINED = "retained.json"
RETAIN = "retain"
EXPLAIN = "explain"

OF_IMAGES = ("object_area", "attribute_area")
"""Measures that are the same for every run."""


@dataclass(frozen=True)
class Split:
    """The rows of one split, as evaluation reads them.

    Attributes:
        dataset: those rows.
        rows: their indices into the whole.
        grouping: how the dataset is grouped.
        groups: their groups; -1 for none.
        training_groups: groups of the training images, for the adjusted average.
    """

    dataset: Dataset
    rows: Int[np.ndarray, "images"]
    grouping: Grouping
    groups: Int[np.ndarray, "images"]
    training_groups: Int[np.ndarray, "training_images"]


def split_of(embedded: EmbeddedImages, name: str, attribute: str | None = None) -> Split:
    """One split with its groups.

    Args:
        attribute: as :func:`~despur.pipeline.grouping.grouping_of` takes it; ``attribute`` of a run.

    Raises:
        DespurError: it has no images, or the dataset has no groups.
    """
    dataset = embedded.dataset
    rows, grouping = dataset.split_rows(name), grouping_of(embedded, attribute)
    training = grouping.groups[dataset.split_rows("train")]
    return Split(dataset.rows(rows), rows, grouping, grouping.groups[rows], training)


def accuracy_of(
    embedded: EmbeddedImages, heads: Heads, split: Split
) -> tuple[AccuracyReport, Bool[np.ndarray, "images"]]:
    """Accuracies of one model's heads on a split, and which images it has right."""
    heads = {name: head.to(embedded.device) for name, head in heads.items()}
    spans = cut(len(split.rows), PREDICTED_AT_ONCE)
    batches = ((span, embedded.rows(split.rows[span.start : span.stop])) for span in spans)
    table = predict(split.dataset.ids, split.dataset.labels, batches, heads, embedded.class_prompts)
    correct = table["correct"].to_numpy()
    report = accuracy_report(
        correct,
        split.groups,
        classes=split.grouping.classes,
        attribute=split.grouping.attribute_names,
        training_groups=split.training_groups,
        whole=split.grouping.whole,
    )
    return report, correct


def measure_column(run: str, measure: str) -> str:
    """The column of ``explanations.parquet`` that holds a measure of a run's maps."""
    if measure in OF_IMAGES:
        return measure
    return run if measure == "aiou" else f"{run}/{measure}"


def runs_state(workspace: Workspace) -> str:
    """Fingerprint of every finished run's heads and settings."""
    files = [
        workspace.path("runs", name, file)
        for name in run_names(workspace)
        for file in ("config.json", "heads.safetensors")
    ]
    return fingerprint([[str(file.relative_to(workspace.root)), fingerprint_file(file)] for file in files])


def evaluate_stage(embedded: Embedded, split: str = "test") -> bool:
    """Write ``metrics.json`` of every run; returns whether anything was computed.

    AIoU and the other measures of maps are filled in where the stage explain has measured these same runs, else null;
    so is the accuracy on classes that were not repaired, where the stage retain has.
    """
    workspace = embedded.workspace
    runs = load_runs(workspace)

    def work() -> None:
        splits: dict[str, Split] = {}
        for name, run in runs.items():
            # Inferred groups are judged alike, whether a run was trained before the verdicts or after.
            attribute = run.attribute if embedded.dataset.attributes else runs[PRETRAINED.name].attribute
            if attribute not in splits:
                splits[attribute] = split_of(embedded, split, attribute)
            judged = splits[attribute]
            report, _ = accuracy_of(embedded, run.heads, judged)
            explained = explanations_of(workspace, name, judged, report)
            found = metrics(run, split, report, explained, judged.grouping.source)
            found["retained"] = retained_of(workspace, name)
            write_json(workspace.path("runs", name, "metrics.json"), found)

    return run_stage(
        workspace,
        "evaluate",
        settings={"split": split},
        inputs=_evaluated_from(embedded),
        outputs=[workspace.path("runs", name, "metrics.json") for name in runs],
        work=work,
        device=embedded.device,
    )


def _evaluated_from(embedded: Embedded) -> str:
    workspace = embedded.workspace
    retained = stage_state(workspace, RETAIN)
    return fingerprint(
        embedded.state,
        runs_state(workspace),
        stage_state(workspace, EXPLAIN),
        *grouping_state(embedded),
        *([retained] if retained else []),
    )


def evaluated_split(workspace: Workspace) -> str:
    """The split that the runs were last evaluated on; "test" where they were not yet."""
    record = workspace.record("evaluate")
    return "test" if record is None else str(record.settings["split"])


def check_evaluated(embedded: Embedded) -> None:
    """Refuse metrics of other runs than those that are there now.

    Raises:
        WorkspaceError: the runs were not evaluated, or have changed since.
    """
    workspace = embedded.workspace
    load_runs(workspace)
    record = workspace.record("evaluate")
    if record is None or record.inputs != fingerprint(record.settings, _evaluated_from(embedded)):
        raise WorkspaceError(
            "its runs are not evaluated yet"
            if record is None
            else "its runs or groups have changed since they were evaluated",
            where=workspace.root,
            now=f"run: despur evaluate -w {workspace.root}",
        )


def is_explained(workspace: Workspace, stage: str = EXPLAIN) -> bool:
    """Whether the stage explain has measured and drawn these same runs."""
    record = workspace.record(stage)
    return record is not None and record.settings["runs"] == runs_state(workspace)


def metrics(
    run: Run, split: str, report: AccuracyReport, explained: dict[str, Any] | None, source: Source
) -> dict[str, Any]:
    """What ``metrics.json`` holds; rates are fractions.

    Args:
        explained: as :func:`explanations_of` gives it.
        source: who says which group an image is in; under ``groups_from``.
    """
    others = {name: value for name, value in (explained or {}).items() if name != "aiou"}
    return {
        "method": run.method,
        "split": split,
        "accuracy": report.to_json(),
        "groups_from": source,
        "aiou": None if explained is None else explained["aiou"],
        "explanations": others or None,
        "best_epoch": run.best_epoch,
        "seconds": {"train": run.seconds},
        "seed": run.seed,
        "diverged_step": run.diverged_step,
    }


def retained_of(workspace: Workspace, name: str) -> dict[str, Any] | None:
    """What is known of a run on classes that were not repaired: ``classes, images, before, after``.

    Returns:
        None where nothing was measured, or under other heads, or where the run's method names no other classes.
    """
    record = workspace.record(RETAIN)
    if record is None or record.settings["runs"] != runs_state(workspace):
        return None
    return read_object(workspace.path(RETAINED), ("runs",))["runs"].get(name)


def explanations_of(workspace: Workspace, name: str, split: Split, report: AccuracyReport) -> dict[str, Any] | None:
    """What is known of a run's maps on the split's images; None where they were not explained, or under other heads.

    Returns:
        ``aiou, iou, energy, pointing``: average and worst group of each, or None; where the attribute was detected
        ``elsewhere``: means by group; and where the maps were checked ``checks``.
    """
    file = workspace.path(EXPLANATIONS)
    if not file.exists() or not is_explained(workspace):
        return None
    table = read_parquet(file)
    if name not in table.column_names:
        return None
    places = {image: row for row, image in enumerate(table["id"].to_pylist())}
    rows = [places.get(image, -1) for image in split.dataset.ids]

    def values(column: str) -> Float[np.ndarray, "images"]:
        if column not in table.column_names:
            return np.full(len(rows), np.nan)
        return np.append(table[column].to_numpy(), np.nan)[rows]

    reports = {
        measure: explanation_report(values(measure_column(name, measure)), split.groups, report.worst_group_index)
        for measure in ON_OBJECT
    }
    found: dict[str, Any] = {measure: None if one is None else one.to_json() for measure, one in reports.items()}
    shares = {measure: values(measure_column(name, measure)) for measure in ELSEWHERE}
    elsewhere = _elsewhere(shares, split, report)
    checks = read_object(workspace.path(CHECKS), ("runs",)) if workspace.path(CHECKS).exists() else {"runs": {}}
    more = {"elsewhere": elsewhere, "checks": checks["runs"].get(name)}
    found |= {key: value for key, value in more.items() if value}
    return found if any(value is not None for value in found.values()) else None


def _elsewhere(
    shares: dict[str, Float[np.ndarray, "images"]], split: Split, report: AccuracyReport
) -> list[dict[str, Any]]:
    """Means over each group's images in which the attribute has a place; empty where no image has one."""
    known = ~np.isnan(shares["on_attribute"])
    rows: list[dict[str, Any]] = []
    for group, about in enumerate(report.groups):
        inside = known & (split.groups == group)
        if inside.any():
            means = {share: float(values[inside].mean()) for share, values in shares.items()}
            rows.append({"class": about.class_name, "present": about.present, "n": int(inside.sum()), **means})
    return rows
