"""The stages in order over a workspace: what is up to date is skipped."""

from despur.pipeline.embedding import embed_stage, predict_stage
from despur.pipeline.evaluation import evaluate_stage
from despur.pipeline.explaining import explain_stage
from despur.pipeline.reporting import report_stage
from despur.pipeline.settings import (
    PAPER_METHODS,
    ExplainSettings,
    MitigateSettings,
    ModelSettings,
    StudySettings,
    read_study,
)
from despur.pipeline.study import run_study
from despur.pipeline.training import mitigate_stage

__all__ = [
    "PAPER_METHODS",
    "ExplainSettings",
    "MitigateSettings",
    "ModelSettings",
    "StudySettings",
    "embed_stage",
    "evaluate_stage",
    "explain_stage",
    "mitigate_stage",
    "predict_stage",
    "read_study",
    "report_stage",
    "run_study",
]
