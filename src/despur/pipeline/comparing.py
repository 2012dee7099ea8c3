"""Every method side by side on the test split, each tuned with the same budget, and whether they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from despur.errors import DespurError, ModelError, SettingsError, TrainingError
from despur.mitigate.methods import METHODS, find_method
from despur.mitigate.methods.pretrained import PRETRAINED
from despur.mitigate.runs import Run, load_run
from despur.mitigate.settings import Selection
from despur.mitigate.significance import holm, interval, paired_p_value, resampled_worst_groups, worst_groups
from despur.pipeline.chosen import best_on_validation, selection_of, validation_score
from despur.pipeline.embedded import Embedded
from despur.pipeline.evaluation import Split, accuracy_of, split_of
from despur.pipeline.grouping import group_warnings, judged_by
from despur.pipeline.settings import MitigateSettings
from despur.pipeline.studying import LazyStudy
from despur.pipeline.training import mitigate_stage, run_name
from despur.pipeline.tuning import tune_stage
from despur.workspace import write_json


@dataclass(frozen=True)
class Compared:
    """One method on the test split; rates are fractions, means and deviations over its sound seeds.

    Attributes:
        seeds, diverged: runs, and how many of them diverged, which count nowhere else.
        validation: worst group on validation (the average where runs are selected by it), by which methods are ranked
            before the test split is looked at.
        worst_group, worst_group_deviation, average, average_deviation: deviations are None for one seed.
        difference: its worst group minus the reference's; None for the reference itself.
        low, high: 95% of that difference where test images are drawn again.
        p_value: paired over the seeds that both are sound on, adjusted for the number of comparisons; None for
            fewer than two such seeds, and where the difference is the same in all of them.
        note: why there is nothing, or what the method was given.
    """

    method: str
    title: str
    seeds: int = 0
    diverged: int = 0
    validation: float | None = None
    worst_group: float | None = None
    worst_group_deviation: float | None = None
    average: float | None = None
    average_deviation: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """All methods, in the order of the table of methods.

    Attributes:
        reference: whom differences are taken from: by default the best trained method on validation, as
            :func:`~despur.pipeline.chosen.best_on_validation` has it.
        warnings: what makes the numbers weaker than they look.
    """

    split: str
    reference: str
    rows: tuple[Compared, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What ``comparison.json`` holds."""
        return {
            "split": self.split,
            "reference": self.reference,
            "warnings": list(self.warnings),
            "rows": [vars(row) for row in self.rows],
        }


def compare_stage(
    embedded: Embedded,
    settings: MitigateSettings,
    *,
    tune: int = 0,
    against: str | None = None,
    split: str = "test",
) -> Comparison:
    """Tune, train and judge every method of the settings; writes ``comparison.json``.

    A method that means nothing on this study has a row that says why, and so has one whose runs all diverged; the
    others go on.

    Args:
        tune: settings to try for each method; 0: the methods' own.
        against: whom to compare with; None: the best trained method on validation.

    Raises:
        DespurError: an unknown method or setting, or no method left to compare.
    """
    # Under its own name, however it was called: twice the same method is one row and one comparison.
    methods = list(dict.fromkeys(find_method(name).name for name in (PRETRAINED.name, *settings.methods)))
    if against is not None:
        against = _among(methods, against)
    lazy = LazyStudy.of(embedded, settings)
    runs: dict[str, list[Run]] = {}
    refused: dict[str, str] = {}
    for name in methods:
        own = settings.model_copy(update={"methods": (name,)})
        try:
            own = tune_stage(embedded, own, tune, lazy) if tune else own
            names = mitigate_stage(embedded, own, lazy)
        except (TrainingError, ModelError) as problem:
            refused[name] = problem.what
            continue
        wanted = [found for found in names if found != run_name(PRETRAINED.name, 0) or name == PRETRAINED.name]
        runs[name] = [load_run(embedded.workspace.path("runs", found)) for found in wanted]
    comparison = _compared(embedded, settings, runs, refused, against, split)
    write_json(embedded.workspace.path("comparison.json"), comparison.to_json())
    return comparison


def _among(methods: Sequence[str], wanted: str) -> str:
    """The name of the method to compare with.

    Raises:
        SettingsError: it is none of the methods compared.
    """
    try:
        found = find_method(wanted).name
    except SettingsError:
        found = wanted
    if found not in methods:
        raise SettingsError(f"{wanted!r} is not among the methods compared", where="--against", now=", ".join(methods))
    return found


@dataclass(frozen=True)
class SoundRuns:
    """A method's runs that did not diverge, on the test images that are in a group.

    Attributes:
        method: as the user named it.
        seeds: of those runs, in the order of the other attributes' rows.
        correct: which images each run has right.
        worst: each run's accuracy in its worst group.
        average: each run's accuracy over all test images, in a group or not.
        validation: mean over the runs of what they are chosen by on validation.
    """

    method: str
    seeds: tuple[int, ...]
    correct: Bool[np.ndarray, "seeds images"]
    worst: Float[np.ndarray, "seeds"]
    average: Float[np.ndarray, "seeds"]
    validation: float


def _sound_runs(
    embedded: Embedded, judged: Split, selection: Selection, name: str, runs: Sequence[Run]
) -> SoundRuns | None:
    """None where every run diverged."""
    sound = [run for run in runs if run.diverged_step is None]
    if not sound:
        return None
    correct = np.stack([accuracy_of(embedded, run.heads, judged)[1] for run in sound])
    grouped = judged.groups >= 0
    return SoundRuns(
        name,
        seeds=tuple(run.seed for run in sound),
        correct=correct[:, grouped],
        worst=worst_groups(correct[:, grouped], judged.groups[grouped]),
        average=correct.mean(axis=1),
        validation=fmean(validation_score(run, selection) for run in sound),
    )


def p_value_over_seeds(one: SoundRuns, other: SoundRuns) -> float | None:
    """:func:`~despur.mitigate.significance.paired_p_value` of the worst groups, over the seeds that both are sound on.

    A method without seeds stands against every seed of the other.

    Returns:
        None where that says nothing.
    """
    ours, theirs = (dict(zip(runs.seeds, runs.worst.tolist(), strict=True)) for runs in (one, other))
    if not find_method(one.method).seeded:
        ours = dict.fromkeys(theirs, one.worst[0])
    if not find_method(other.method).seeded:
        theirs = dict.fromkeys(ours, other.worst[0])
    shared = sorted(ours.keys() & theirs.keys())
    return paired_p_value(np.array([ours[seed] for seed in shared]), np.array([theirs[seed] for seed in shared]))


def _compared(
    embedded: Embedded,
    settings: MitigateSettings,
    runs: dict[str, list[Run]],
    refused: dict[str, str],
    against: str | None,
    split: str,
) -> Comparison:
    judged = split_of(embedded, split, judged_by(embedded, settings.groups, settings.attribute))
    selection = selection_of(run for own in runs.values() for run in own)
    found = {name: _sound_runs(embedded, judged, selection, name, own) for name, own in runs.items()}
    sound = {name: own for name, own in found.items() if own is not None}
    reference = against or best_on_validation({name: own.validation for name, own in sound.items()})
    if reference is None:
        raise DespurError("no method is left to compare", where="compare", now="choose methods that this study allows")
    if reference not in sound:
        raise TrainingError("no sound run is left to compare with", where=reference, now="lower the learning rate")
    drawn = resampled_worst_groups(
        [own.correct for own in sound.values()],
        judged.groups[judged.groups >= 0],
        np.random.default_rng(settings.seed),
    )
    resampled = dict(zip(sound, drawn, strict=True))
    others = [name for name in sound if name != reference]
    p_values = holm([p_value_over_seeds(sound[name], sound[reference]) for name in others])
    p_value_of = dict(zip(others, p_values, strict=True))

    def row(name: str) -> Compared:
        seeds = len(runs.get(name, []))
        if name not in sound:
            return _row_without_runs(name, seeds, refused.get(name, "every run diverged"))
        alone = _row_of(sound[name], seeds)
        if name == reference:
            return alone
        low, high = interval(resampled[name] - resampled[reference])
        difference = float(sound[name].worst.mean() - sound[reference].worst.mean())
        return replace(alone, difference=difference, low=low, high=high, p_value=p_value_of[name])

    order = [name for name in METHODS if name in runs or name in refused]
    order += [name for name in (*runs, *refused) if name not in order]
    rows = tuple(row(name) for name in order)
    note = judged.grouping.note
    warnings = (*([note] if note else []), *group_warnings(embedded, settings.attribute, settings.groups))
    return Comparison(split, reference, rows, warnings)


def _row_without_runs(name: str, seeds: int, why: str) -> Compared:
    return Compared(name, find_method(name).title, seeds=seeds, diverged=seeds, note=why)


def _row_of(sound: SoundRuns, seeds: int) -> Compared:
    """A method's own numbers, without its difference from the reference."""
    method = find_method(sound.method)
    return Compared(
        sound.method,
        method.title,
        seeds=seeds,
        diverged=seeds - len(sound.seeds),
        validation=sound.validation,
        worst_group=float(sound.worst.mean()),
        worst_group_deviation=_deviation(sound.worst.tolist()),
        average=float(sound.average.mean()),
        average_deviation=_deviation(sound.average.tolist()),
        note=method.note,
    )


def _deviation(values: list[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
