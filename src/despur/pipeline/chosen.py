"""Which run stands for "after": chosen on validation alone, as a user without a labelled test split would."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from despur.errors import SettingsError, WorkspaceError, nearest
from despur.mitigate.methods.pretrained import PRETRAINED
from despur.mitigate.runs import Run
from despur.workspace import Workspace


def validation_worst_group(run: Run) -> float:
    """Worst-group accuracy of a run's kept epoch on the validation split."""
    return float(run.history["worst_group"][run.best_epoch].as_py())


def best_method(runs: Mapping[str, Run]) -> str | None:
    """The trained method with the highest validation worst group, mean over sound seeds; None: nothing is trained."""
    scores: dict[str, list[float]] = {}
    for run in runs.values():
        if run.method != PRETRAINED.name and run.diverged_step is None:
            scores.setdefault(run.method, []).append(validation_worst_group(run))
    return max(scores, key=lambda method: fmean(scores[method])) if scores else None


def best_run(runs: Mapping[str, Run]) -> str | None:
    """The name of the best method's sound run with the lowest seed; None: nothing is trained."""
    method = best_method(runs)
    sound = [name for name, run in runs.items() if run.method == method and run.diverged_step is None]
    return min(sound, key=lambda name: runs[name].seed) if sound else None


def chosen_run(workspace: Workspace, runs: Mapping[str, Run], name: str | None) -> str:
    """The run that a user named, or :func:`best_run` where none is named.

    Raises:
        SettingsError: there is no run of that name.
        WorkspaceError: none is named, and no sound run is there.
    """
    found = best_run(runs) if name is None else name
    if found is None:
        root = workspace.root
        raise WorkspaceError("no sound run is there", where=root, now=f"run: despur mitigate -w {root}")
    if found not in runs:
        raise SettingsError(f"there is no run {found!r}", where="--run", now=nearest(found, list(runs)))
    return found
