"""Accuracies of groups, overlap of maps with objects, and both as classes for a loop of one's own.

``WorstGroupAccuracy``, ``AdjustedAverageAccuracy`` and ``AdjustedIoU`` are torchmetrics' kind of metric (extra
``despur[torchmetrics]``), loaded when first named.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from despur.errors import SettingsError
from despur.metrics.groups import AccuracyReport, GroupAccuracy, accuracy_report, group_rates
from despur.metrics.overlap import adjusted_iou, soft_iou

if TYPE_CHECKING:
    from despur.metrics.running import AdjustedAverageAccuracy, AdjustedIoU, WorstGroupAccuracy

__all__ = [
    "AccuracyReport",
    "AdjustedAverageAccuracy",
    "AdjustedIoU",
    "GroupAccuracy",
    "WorstGroupAccuracy",
    "accuracy_report",
    "adjusted_iou",
    "group_rates",
    "soft_iou",
]

_RUNNING = ("AdjustedAverageAccuracy", "AdjustedIoU", "WorstGroupAccuracy")


def __getattr__(name: str) -> Any:
    if name not in _RUNNING:
        raise AttributeError(f"module 'despur.metrics' has no attribute {name!r}")
    try:
        return getattr(import_module("despur.metrics.running"), name)
    except ModuleNotFoundError as error:
        if error.name != "torchmetrics":
            raise
        raise SettingsError(
            "torchmetrics is not installed",
            where=f"despur.metrics.{name}",
            now="run: pip install 'despur[torchmetrics]'",
        ) from error
