"""A whole study: every stage in order, for one model or several, skipping what is up to date."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from despur.catalog import check_model, load_backbone, load_dataset
from despur.data.examples import Dataset
from despur.explain.methods import find_map_method
from despur.features.engines import choose_engine, chosen_actors
from despur.features.mirror import named_mirror
from despur.pipeline.awaiting import Awaited, awaited
from despur.pipeline.blending import blend_stage
from despur.pipeline.detecting import COLUMN, TAGGER, check_search, detect_stage
from despur.pipeline.embedded import Embedded
from despur.pipeline.embedding import embed_stage, predict_stage
from despur.pipeline.evaluation import evaluate_stage
from despur.pipeline.explaining import explain_stage
from despur.pipeline.grouping import group_warnings
from despur.pipeline.ranking import rank_stage, within
from despur.pipeline.reporting import report_stage
from despur.pipeline.retaining import retain_stage
from despur.pipeline.settings import MitigateSettings, StudySettings
from despur.pipeline.tracking import check_trackers
from despur.pipeline.training import chosen_methods, mitigate_stage
from despur.pipeline.tuning import check_searched, tune_stage
from despur.pipeline.wording import Wording, read_wording, wording_stage
from despur.progress import Progress, silent
from despur.report import BackboneSection
from despur.workspace import Workspace, fingerprint

LONGEST_NAME = 60
"""Letters of a model's spec in a folder's name; systems allow 255 bytes, and a letter is up to four."""


@dataclass(frozen=True)
class StudyOutcome:
    """Where a study's results lie, and the report's sections, one a model.

    Attributes:
        report: the page; None: there is none, because a person has to judge something first, or because the study was
            to stop before it.
        workspaces: one a model.
        sections: one a model; empty where there is no report.
        waiting: what has to be judged.
    """

    report: Path | None
    workspaces: list[Path]
    sections: list[BackboneSection]
    waiting: list[Awaited]


def run_study(
    settings: StudySettings,
    *,
    device: torch.device,
    title: str = "despur report",
    progress: Progress = silent,
    announce: Callable[[str], None] = lambda line: None,
    last: str | None = None,
) -> StudyOutcome:
    """Embed, predict, detect and rank where the study asks for it, mitigate, explain, evaluate and report.

    Where methods are to be told groups by verdicts and there are none yet, a model's stages end with the ranking.

    Args:
        device: where to compute.
        title: the report's heading.
        announce: is told what starts, a line at a time.
        last: the stage after which to stop, without a report; None: all stages.

    Raises:
        DespurError: the dataset, a model or a setting is not what the study says.
    """
    settings = settings.seeded()
    wording = check_study(settings)
    announce(f"reading {settings.dataset}")
    dataset = load_dataset(
        settings.dataset,
        seed=settings.seed,
        allow_outside=settings.allow_outside,
        folder=settings.workspace,
        progress=progress,
    )
    if dataset.attributes or settings.mitigate.groups == "attribute" or settings.mitigate.attribute is not None:
        dataset.attribute(settings.mitigate.attribute)
    opened: list[Embedded] = []
    waiting: list[Awaited] = []
    for spec in settings.models:
        searched = [embedded.workspace for embedded in opened]
        embedded, wanted = _run_model(settings, spec, dataset, wording, device, progress, announce, searched, last)
        opened.append(embedded)
        waiting += [] if wanted is None else [wanted]
    workspaces = [embedded.workspace.root for embedded in opened]
    if waiting or last is not None:
        return StudyOutcome(None, workspaces, [], waiting)
    report = settings.workspace / "report.html"
    return StudyOutcome(report, workspaces, report_stage(opened, report, title=title), [])


def check_study(settings: StudySettings) -> Wording:
    """Refuse what a user mistyped, before an hour of embedding; returns what the prompts are made of.

    Raises:
        DespurError: a model, a method, a detector or a setting is not what the study says.
    """
    for spec in settings.models:
        check_model(spec, random_weights=settings.random_weights)
        chosen_methods(settings.mitigate, spec)
        if settings.tune is not None:
            check_searched(settings.mitigate, spec)
    check_trackers(settings.mitigate.track)
    chosen_actors(settings.engine.name, settings.engine.spread)
    named_mirror(settings.mirror)
    find_map_method(settings.explain.method)
    wording = read_wording(settings.prompts)
    if settings.detect is not None and settings.rank is not None:
        within(settings.rank, settings.detect.split)
    if settings.detect is not None:
        check_search(settings.detect.search)
    return wording


def workspace_of(settings: StudySettings, spec: str) -> Path:
    """The workspace of one of a study's models: the study's own where there is only one.

    Its name is the spec's letters; a digest follows where another of the models has the same ones, or very many.
    """
    if len(settings.models) == 1:
        return settings.workspace
    name = _file_name(spec)
    # Some file systems take capital letters for small ones.
    alike = [other for other in settings.models if _file_name(other).casefold() == name.casefold()]
    if len(alike) > 1 or len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}-{fingerprint(spec)[:8]}"
    return settings.workspace / name


def _file_name(spec: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in spec)


def _run_model(
    settings: StudySettings,
    spec: str,
    dataset: Dataset,
    wording: Wording,
    device: torch.device,
    progress: Progress,
    announce: Callable[[str], None],
    searched: Sequence[Workspace],
    last: str | None,
) -> tuple[Embedded, Awaited | None]:
    """Every stage of one model up to the last one, or to the ranking and what has to be judged before the others."""

    def waiting() -> None:
        announce(f"waiting for another process to finish with {folder}")

    folder = workspace_of(settings, spec)
    workspace = Workspace.create(folder, dataset=settings.dataset, model=spec, on_wait=waiting)
    model, spread = settings.model(spec), settings.engine.spread
    load = partial(
        load_backbone,
        spec,
        random_weights=model.random_weights,
        trainable=model.trainable,
        seed=model.seed,
    )
    with workspace.lock(on_wait=waiting):
        backbone = load(device=device)
        find_map_method(settings.explain.method).check(backbone)
        wording_stage(workspace, wording, dataset, backbone)
        embedded = Embedded(workspace, device, backbone, progress)
        stages: dict[str, Callable[[], object]] = {
            "embed": lambda: embed_stage(
                workspace,
                dataset,
                backbone,
                model,
                settings=settings.embed,
                max_unreadable=settings.max_unreadable,
                engine=choose_engine(settings.engine.name, partial(load, device=spread.device), spread),
                mirror=named_mirror(settings.mirror),
                progress=progress,
            ),
            "predict": lambda: predict_stage(embedded),
            **_finding(settings, embedded, searched),
        }
        repairing: dict[str, Callable[[], object]] = {
            "mitigate": lambda: _mitigate(settings, embedded, announce),
            "explain": lambda: explain_stage(embedded, settings.explain),
            **_judging(settings, embedded),
        }
        if _run_stages(spec, stages, announce, last):
            return embedded, None
        wanted = awaited(embedded, settings.mitigate)
        if wanted is None:
            _run_stages(spec, repairing, announce, last)
    return embedded, wanted


def _run_stages(
    spec: str, stages: Mapping[str, Callable[[], object]], announce: Callable[[str], None], last: str | None
) -> bool:
    """Run stages in their order; returns whether the last one was among them."""
    for name, stage in stages.items():
        announce(f"{spec}: {name}")
        stage()
        if name == last:
            return True
    return False


def _mitigate(settings: StudySettings, embedded: Embedded, announce: Callable[[str], None]) -> None:
    """Train, and tell before it what makes the result weaker than it looks."""
    for warning in group_warnings(embedded, settings.mitigate.attribute, settings.mitigate.groups):
        announce(f"warning: {warning}")
    mitigate_stage(embedded, _tuned(settings, embedded))


def _tuned(settings: StudySettings, embedded: Embedded) -> MitigateSettings:
    """How methods are trained: as the study says, or with the best of as many settings as it lets be tried."""
    if settings.tune is None:
        return settings.mitigate
    return tune_stage(embedded, settings.mitigate, settings.tune)


def _judging(settings: StudySettings, embedded: Embedded) -> dict[str, Callable[[], object]]:
    """The stages that judge what was trained, in their order."""
    stages: dict[str, Callable[[], object]] = {}
    retain = settings.retain
    if retain is not None:
        stages["retain"] = lambda: retain_stage(embedded, retain.images, retain.names)
    stages["evaluate"] = lambda: evaluate_stage(embedded)
    if settings.blend:
        stages["blend"] = lambda: blend_stage(embedded)
    return stages


def _finding(
    settings: StudySettings, embedded: Embedded, searched: Sequence[Workspace]
) -> dict[str, Callable[[], object]]:
    """The stages that find shortcuts, where a study asks for them; verdicts on them are read by ``mitigate``.

    Args:
        searched: workspaces of the study's models before this one.
    """
    stages: dict[str, Callable[[], object]] = {}
    detect, rank, engine = settings.detect, settings.rank, settings.engine
    if detect is not None:
        stages["detect"] = lambda: detect_stage(
            embedded,
            detect.search,
            search=detect.effort,
            # A search that looks at no image has nothing for actors to do.
            actors=None if detect.detector in (COLUMN, TAGGER) else chosen_actors(engine.name, engine.spread),
            mirror=named_mirror(settings.mirror),
            max_unreadable=settings.max_unreadable,
            searched_before=searched,
        )
    if rank is not None:
        stages["rank"] = lambda: rank_stage(embedded, rank)
    return stages
