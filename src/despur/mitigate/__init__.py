"""Retraining the projections of a CLIP-like model so that it stops leaning on a spurious attribute."""

from despur.mitigate.callback import Callback
from despur.mitigate.methods import METHODS, Method, find_method, method_from_losses
from despur.mitigate.runs import Run, load_heads, load_run, save_run
from despur.mitigate.settings import TrainSettings
from despur.mitigate.study import Examples, Study
from despur.mitigate.trainer import DivergedError, train

__all__ = [
    "METHODS",
    "Callback",
    "DivergedError",
    "Examples",
    "Method",
    "Run",
    "Study",
    "TrainSettings",
    "find_method",
    "load_heads",
    "load_run",
    "method_from_losses",
    "save_run",
    "train",
]
