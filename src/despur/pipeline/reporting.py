"""The stage report: what the workspaces hold, as one page and as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from despur.data.images import read_image
from despur.errors import WorkspaceError
from despur.mitigate.methods import find_method
from despur.mitigate.methods.pretrained import PRETRAINED
from despur.mitigate.runs import Run
from despur.pipeline.chosen import best_run, of_other_groups, unhelped
from despur.pipeline.embedded import Embedded
from despur.pipeline.evaluation import EXPLAIN, check_evaluated, is_explained
from despur.pipeline.grouping import grouping_of, small_groups
from despur.pipeline.looking import looks_of, map_checks_of
from despur.pipeline.runner import damaged_outputs
from despur.pipeline.strips import STRIPS, strip_files
from despur.pipeline.training import load_runs
from despur.report import (
    BackboneSection,
    Curve,
    GroupRow,
    MethodRow,
    Panel,
    Rate,
    Report,
    Spread,
    Strip,
    write_report,
)
from despur.workspace import Workspace, read_json, read_object, read_parquet, versions

METRICS = ("split", "accuracy", "aiou", "diverged_step")
"""What the report reads of ``metrics.json``."""


def report_stage(workspaces: Sequence[Embedded], file: Path, title: str = "despur report") -> list[BackboneSection]:
    """Write one page over one workspace or several of the same dataset; returns its sections.

    Raises:
        WorkspaceError: a workspace holds no run, or runs that have changed since they were evaluated.
    """
    sections = [section_of(embedded) for embedded in workspaces]
    first = workspaces[0]
    records = {
        f"{embedded.model.spec}: {stage}" if len(workspaces) > 1 else stage: record
        for embedded in workspaces
        for stage, record in embedded.workspace.about()["stages"].items()
    }
    write_report(
        file,
        Report(
            title=title,
            dataset=first.dataset.spec,
            sections=sections,
            created=datetime.now().astimezone(),
            stage_seconds={stage: record.seconds for stage, record in records.items()},
            settings={stage: record.settings for stage, record in records.items()},
            versions=versions(),
            notes=[note for embedded in workspaces for note in _notes(embedded)],
        ),
    )
    return sections


def _notes(embedded: Embedded) -> list[str]:
    quarantined = read_parquet(embedded.workspace.path("quarantine.parquet")).num_rows
    noun = "image" if quarantined == 1 else "images"
    unread = f"{quarantined} {noun} could not be read; quarantine.parquet names each with its reason."
    said = [unread] if quarantined else []
    energy = _energy_note(embedded.workspace)
    runs = load_runs(embedded.workspace)
    grouping = grouping_of(embedded, runs[PRETRAINED.name].attribute)
    said += [note for note in (energy, f"{grouping.note}." if grouping.note else "") if note]
    said += [f"{warning}." for warning in small_groups(grouping, embedded.dataset.split_rows("val"))]
    said += [f"{sentence}." for sentence in (*unhelped(runs), *of_other_groups(runs))]
    said += _retained_note(embedded.workspace, runs)
    return [f"{embedded.model.spec}: {note}" for note in said]


def _retained_note(workspace: Workspace, runs: Mapping[str, Run]) -> list[str]:
    """What the method that stands for "after" kept of other classes, where that was measured."""
    after = best_run(runs)
    kept = (
        None if after is None else read_object(workspace.path("runs", after, "metrics.json"), METRICS).get("retained")
    )
    if after is None or kept is None:
        return []
    before, now = 100 * kept["before"], 100 * kept["after"]
    return [
        f"on {kept['classes']} classes that were not repaired ({kept['images']:,} images), accuracy is {before:.1f}% "
        f"before and {now:.1f}% after {find_method(runs[after].method).title}."
    ]


def _energy_note(workspace: Workspace) -> str:
    """Whether the maps of the method that stands for "after" lie more on the object than before, seed by seed."""
    runs = load_runs(workspace)
    after = best_run(runs)
    if after is None:
        return ""
    method = runs[after].method
    seeds = {run.seed: name for name, run in runs.items() if run.method == method and run.diverged_step is None}
    found = {name: _energy(workspace, name) for name in (PRETRAINED.name, *seeds.values())}
    before = found[PRETRAINED.name]
    later = {seed: value for seed, name in seeds.items() if (value := found[name]) is not None}
    if before is None or not later:
        return ""
    title = find_method(method).title
    fallen = [str(seed) for seed, value in sorted(later.items()) if value <= before]
    mean = sum(later.values()) / len(later)
    risen = "it rises with every seed" if len(later) > 1 else "it rises"
    verdict = f"it does not rise with seed {', '.join(fallen)}" if fallen else risen
    of_seeds = f"mean over {len(later)} seeds" if len(later) > 1 else "one seed"
    return (
        f"the map's share on the object is {100 * before:.1f}% before and {100 * mean:.1f}% after {title} "
        f"({of_seeds}): {verdict}."
    )


def _energy(workspace: Workspace, run: str) -> float | None:
    file = workspace.path("runs", run, "metrics.json")
    measured = (read_json(file) if file.exists() else {}).get("explanations") or {}
    return (measured.get("energy") or {}).get("average")


def section_of(embedded: Embedded) -> BackboneSection:
    """One backbone's part of the report.

    Raises:
        WorkspaceError: there is no run, or they have changed since they were evaluated.
    """
    workspace = embedded.workspace
    check_evaluated(embedded)
    runs = load_runs(workspace)
    metrics = {name: read_object(workspace.path("runs", name, "metrics.json"), METRICS) for name in runs}
    strips, chosen, of_split = _strips(embedded)
    grouping = grouping_of(embedded, runs[PRETRAINED.name].attribute)
    section = section_of_runs(embedded.model.spec, runs, metrics, grouping.phrases)
    return replace(
        section,
        random_weights=embedded.model.random_weights,
        strips=strips,
        strips_chosen=chosen,
        strips_split=of_split,
    )


def section_of_runs(
    spec: str, runs: Mapping[str, Run], metrics: Mapping[str, Any], phrases: Sequence[str]
) -> BackboneSection:
    """One backbone's part of a report, without strips.

    Args:
        spec: the model's.
        runs: by name, the pre-trained model's among them.
        metrics: what ``metrics.json`` holds of each.
        phrases: the groups in words.
    """
    after = best_run(runs)
    compared = [PRETRAINED.name, *([] if after is None else [after])]
    return BackboneSection(
        spec=spec,
        split=metrics[PRETRAINED.name]["split"],
        rows=_rows(runs, metrics),
        groups=_groups(phrases, metrics[PRETRAINED.name], metrics.get(after or "")),
        after_title=None if after is None else find_method(runs[after].method).title,
        shown_seed=None if after is None else runs[after].seed,
        curves=_curves(runs),
        looks=looks_of(phrases, metrics[PRETRAINED.name], metrics.get(after or "")),
        map_checks=map_checks_of([(find_method(runs[name].method).title, metrics[name]) for name in compared]),
    )


def _by_method(runs: Mapping[str, Run], names: Sequence[str]) -> dict[str, list[str]]:
    methods: dict[str, list[str]] = {}
    for name in names:
        methods.setdefault(runs[name].method, []).append(name)
    return methods


def _rows(runs: Mapping[str, Run], metrics: Mapping[str, Any]) -> list[MethodRow]:
    """A row a method, the pre-trained model first and then in the order they were trained in."""
    return [
        _row(method, [metrics[name] for name in names], sum(runs[name].diverged_step is not None for name in names))
        for method, names in _by_method(runs, list(metrics)).items()
    ]


def _row(method: str, metrics: Sequence[Any], diverged: int) -> MethodRow:
    sound = [entry for entry in metrics if entry["diverged_step"] is None]

    def spread(part: str, key: str) -> Spread | None:
        values = [entry[part][key] for entry in sound if entry[part] is not None and entry[part][key] is not None]
        return Spread.over(values) if values else None

    missing = Spread(float("nan"))
    found = find_method(method)
    return MethodRow(
        method=method,
        title=found.title,
        seeds=len(metrics),
        average=spread("accuracy", "average") or missing,
        worst_group=spread("accuracy", "worst_group") or missing,
        adjusted_average=spread("accuracy", "adjusted_average"),
        aiou_average=spread("aiou", "average"),
        aiou_worst_group=spread("aiou", "worst_group"),
        diverged=diverged,
        note=found.note,
    )


def _groups(phrases: Sequence[str], before: Any, after: Any | None) -> list[GroupRow]:

    def rate(entry: Mapping[str, Any]) -> Rate:
        return Rate(entry["accuracy"], entry["ci_low"], entry["ci_high"])

    later = [Rate()] * len(phrases) if after is None else [rate(entry) for entry in after["accuracy"]["groups"]]
    return [
        GroupRow(
            class_name=entry["class"],
            attribute=entry["attribute"],
            present=entry["present"],
            phrase=phrase,
            n=entry["n"],
            before=rate(entry),
            after=now,
        )
        for phrase, entry, now in zip(phrases, before["accuracy"]["groups"], later, strict=True)
    ]


def _curves(runs: Mapping[str, Run]) -> dict[str, Curve]:
    """Training of each method's first seed."""
    curves: dict[str, Curve] = {}
    for run in sorted(runs.values(), key=lambda run: run.seed):
        history = run.history
        if run.method in curves or history.num_rows < 2:
            continue
        terms = {
            name.removeprefix("loss/"): [
                float("nan") if value is None else value for value in history[name].to_pylist()
            ]
            for name in history.column_names
            if name.startswith("loss/")
        }
        curves[run.method] = Curve(
            epochs=history["epoch"].to_pylist(),
            worst_group=history["worst_group"].to_pylist(),
            terms=terms,
            best_epoch=run.best_epoch,
        )
    return curves


def _strips(embedded: Embedded) -> tuple[list[Strip], str, str]:
    """The strips that the stage explain left of these runs, how their images were chosen, and of which split.

    Raises:
        WorkspaceError: a picture is gone or is not what was written.
    """
    workspace = embedded.workspace
    file = workspace.path(STRIPS, "strips.json")
    record = workspace.record(EXPLAIN)
    if not file.exists() or record is None or not is_explained(workspace):
        return [], "", ""
    for damaged in damaged_outputs(workspace, record, strip_files(file.parent)):
        raise WorkspaceError(
            "it is not what was written" if damaged.exists() else "it is gone",
            where=damaged,
            now=f"run: despur explain -w {workspace.root}",
        )
    content = read_object(file, ("strips", "chosen"))
    strips = [
        Strip(
            title=f"{entry['id']}, {entry['chosen']}",
            group=entry["group"],
            panels=[
                Panel(
                    image=read_image(file.with_name(panel["file"])),
                    caption=panel["caption"],
                    said=panel.get("said"),
                    correct=panel.get("correct"),
                    aiou=panel.get("aiou"),
                )
                for panel in entry["panels"]
            ],
        )
        for entry in content["strips"]
    ]
    return strips, content["chosen"], str(record.settings["split"])
