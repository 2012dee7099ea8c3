"""A whole study: every stage in order, for one model or several, skipping what is up to date."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from despur.catalog import load_backbone, load_dataset
from despur.data.examples import Dataset
from despur.pipeline.embedded import Embedded
from despur.pipeline.embedding import embed_stage, predict_stage
from despur.pipeline.evaluation import evaluate_stage
from despur.pipeline.explaining import explain_stage
from despur.pipeline.reporting import report_stage
from despur.pipeline.settings import StudySettings
from despur.pipeline.training import mitigate_stage
from despur.progress import Progress, silent
from despur.report import BackboneSection
from despur.workspace import Workspace


@dataclass(frozen=True)
class StudyOutcome:
    """Where a study's results lie, and the report's sections, one a model."""

    report: Path
    workspaces: list[Path]
    sections: list[BackboneSection]


def run_study(
    settings: StudySettings,
    *,
    device: torch.device,
    title: str = "despur report",
    progress: Progress = silent,
    announce: Callable[[str], None] = lambda line: None,
) -> StudyOutcome:
    """Embed, predict, mitigate, evaluate, explain and report.

    Args:
        device: where to compute.
        title: the report's heading.
        announce: is told what starts, a line at a time.

    Raises:
        DespurError: the dataset, a model or a setting is not what the study says.
    """
    settings.workspace.mkdir(parents=True, exist_ok=True)
    announce(f"reading {settings.dataset}")
    dataset = load_dataset(
        settings.dataset,
        seed=settings.seed,
        allow_outside=settings.allow_outside,
        folder=settings.workspace,
        progress=progress,
    )
    opened = [_run_model(settings, spec, dataset, device, progress, announce) for spec in settings.models]
    report = settings.workspace / "report.html"
    sections = report_stage(opened, report, title=title)
    return StudyOutcome(report, [embedded.workspace.root for embedded in opened], sections)


def workspace_of(settings: StudySettings, spec: str) -> Path:
    """The workspace of one of a study's models: the study's own where there is only one."""
    if len(settings.models) == 1:
        return settings.workspace
    return settings.workspace / "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in spec)


def _run_model(
    settings: StudySettings,
    spec: str,
    dataset: Dataset,
    device: torch.device,
    progress: Progress,
    announce: Callable[[str], None],
) -> Embedded:
    def waiting() -> None:
        announce(f"waiting for another process to finish with {folder}")

    folder = workspace_of(settings, spec)
    workspace = Workspace.create(folder, dataset=settings.dataset, model=spec, on_wait=waiting)
    model = settings.model(spec)
    with workspace.lock(on_wait=waiting):
        backbone = load_backbone(
            spec,
            random_weights=model.random_weights,
            trainable=model.trainable,
            device=device,
            seed=model.seed,
        )
        embedded = Embedded(workspace, device, backbone, progress)
        stages: dict[str, Callable[[], object]] = {
            "embed": lambda: embed_stage(
                workspace,
                dataset,
                backbone,
                model,
                settings=settings.embed,
                max_unreadable=settings.max_unreadable,
                progress=progress,
            ),
            "predict": lambda: predict_stage(embedded),
            "mitigate": lambda: mitigate_stage(embedded, settings.mitigate),
            "explain": lambda: explain_stage(embedded, settings.explain),
            "evaluate": lambda: evaluate_stage(embedded),
        }
        for name, stage in stages.items():
            announce(f"{spec}: {name}")
            stage()
    return embedded
