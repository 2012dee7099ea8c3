"""Which run stands for "after": chosen on validation alone, as a user without a labelled test split would."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean

from despur.errors import SettingsError, WorkspaceError, nearest
from despur.mitigate.methods import find_method
from despur.mitigate.methods.pretrained import PRETRAINED
from despur.mitigate.runs import Run
from despur.mitigate.settings import Selection
from despur.workspace import Workspace


def validation_worst_group(run: Run) -> float:
    """Worst-group accuracy of a run's kept epoch on the validation split."""
    return float(run.history["worst_group"][run.best_epoch].as_py())


def selection_of(runs: Iterable[Run]) -> Selection:
    """What tells runs apart on validation: their worst group, unless one of them was selected without groups."""
    alike = all(run.settings.selection == "worst-group" for run in runs if run.method != PRETRAINED.name)
    return "worst-group" if alike else "average"


def validation_score(run: Run, selection: Selection) -> float:
    """Worst-group or average accuracy of a run's kept epoch on the validation split."""
    column = "worst_group" if selection == "worst-group" else "average"
    return float(run.history[column][run.best_epoch].as_py())


def _validation_groups(run: Run) -> set[str]:
    """The groups whose validation accuracies a run's history holds."""
    return {name for name in run.history.column_names if name.startswith("accuracy/")}


def of_these_groups(runs: Mapping[str, Run]) -> dict[str, Run]:
    """The runs that can be compared on validation: the worst of other groups is another measure.

    The pre-trained model is measured anew with every training, so that its groups are those of the last one. All runs
    where it has no company in them.
    """
    if PRETRAINED.name not in runs:
        return dict(runs)
    last = _validation_groups(runs[PRETRAINED.name])
    alike = {name: run for name, run in runs.items() if _validation_groups(run) == last}
    return alike if len(alike) > 1 else dict(runs)


def of_other_groups(runs: Mapping[str, Run]) -> list[str]:
    """A sentence that names the methods that :func:`of_these_groups` leaves out; or none."""
    left_out = runs.keys() - of_these_groups(runs).keys()
    titles = dict.fromkeys(find_method(run.method).title for name, run in runs.items() if name in left_out)
    what = "selected by other groups than were told last, and so not chosen from"
    return [f"{what}: {', '.join(titles)}"] if titles else []


def scores_by_method(runs: Mapping[str, Run]) -> dict[str, float]:
    """Validation score of every trained method, mean over its sound seeds; methods without one are left out.

    So are those that were selected by other groups, see :func:`of_these_groups`.
    """
    runs = of_these_groups(runs)
    selection = selection_of(runs.values())
    scores: dict[str, list[float]] = {}
    for run in runs.values():
        if run.method != PRETRAINED.name and run.diverged_step is None:
            scores.setdefault(run.method, []).append(validation_score(run, selection))
    return {method: fmean(of_seeds) for method, of_seeds in scores.items()}


def unhelped(runs: Mapping[str, Run]) -> list[str]:
    """A sentence that names the trained methods that validation likes no better than the model as it came; or none.

    Args:
        runs: by name, the pre-trained model's among them.
    """
    selection = selection_of(of_these_groups(runs).values())
    before = validation_score(runs[PRETRAINED.name], selection)
    found = [
        f"{find_method(method).title} {100 * score:.1f}%"
        for method, score in scores_by_method(runs).items()
        if score <= before
    ]
    what = "worst group" if selection == "worst-group" else "average"
    came = f"no better on validation than the model as it came, whose {what} there is {100 * before:.1f}%"
    return [f"{came}: {', '.join(found)}"] if found else []


def best_on_validation(scores: Mapping[str, float]) -> str | None:
    """The trained method with the highest score; None: there is none.

    One that is fitted to the validation split is the best only where there is no other.

    Args:
        scores: on validation, by the method's name.
    """
    trained = [name for name in scores if name != PRETRAINED.name]
    fair = [name for name in trained if not find_method(name).fits_validation]
    return max(fair or trained, key=lambda name: scores[name], default=None)


def best_method(runs: Mapping[str, Run]) -> str | None:
    """:func:`best_on_validation` by the mean over sound seeds; None: nothing is trained."""
    return best_on_validation(scores_by_method(runs))


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
