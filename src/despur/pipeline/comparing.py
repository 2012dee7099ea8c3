"""Every method side by side on the test split, each tuned with the same budget, and whether they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from despur.errors import DespurError, ModelError, SettingsError, TrainingError
from despur.mitigate.methods import METHODS, find_method
from despur.mitigate.methods.pretrained import PRETRAINED
from despur.mitigate.runs import Run, load_run
from despur.mitigate.significance import holm, interval, paired_p_value, resampled_worst_groups, worst_groups
from despur.pipeline.chosen import selection_of, validation_score
from despur.pipeline.embedded import Embedded
from despur.pipeline.evaluation import accuracy_of, split_of
from despur.pipeline.grouping import grouping_of
from despur.pipeline.settings import MitigateSettings
from despur.pipeline.studying import LazyStudy
from despur.pipeline.training import mitigate_stage, run_name
from despur.pipeline.tuning import tune_stage
from despur.workspace import write_json

FEW_IMAGES = 20
"""A validation group of fewer tells settings apart by chance more than by merit."""


@dataclass(frozen=True)
class Compared:
    """One method on the test split; rates are fractions, means and deviations over its sound seeds.

    Attributes:
        seeds, diverged: runs, and how many of them diverged, which count nowhere else.
        validation: worst group on validation, by which methods are ranked before the test split is looked at.
        worst_group, worst_group_deviation, average, average_deviation: deviations are None for one seed.
        difference: its worst group minus the reference's; None for the reference itself.
        low, high: 95% of that difference where test images are drawn again.
        p_value: paired over seeds, adjusted for the number of comparisons; None where there are fewer than two pairs.
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
        reference: whom differences are taken from: by default the best trained method on validation.
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
        against: whom to compare with; None: the trained method with the best worst group on validation.

    Raises:
        DespurError: an unknown method or setting, or no method left to compare.
    """
    methods = {name: find_method(name) for name in dict.fromkeys((PRETRAINED.name, *settings.methods))}
    if against is not None and against not in methods:
        raise SettingsError(f"{against!r} is not among the methods compared", where="--against", now=", ".join(methods))
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


def _compared(
    embedded: Embedded,
    settings: MitigateSettings,
    runs: dict[str, list[Run]],
    refused: dict[str, str],
    against: str | None,
    split: str,
) -> Comparison:
    judged = split_of(embedded, split, settings.attribute)
    grouped = judged.groups >= 0
    correct: dict[str, Bool[np.ndarray, "seeds images"]] = {}
    validation: dict[str, float] = {}
    selection = selection_of(run for own in runs.values() for run in own)
    for name, own in runs.items():
        sound = [run for run in own if run.diverged_step is None]
        if sound:
            validation[name] = fmean(validation_score(run, selection) for run in sound)
            correct[name] = np.stack([accuracy_of(embedded, run.heads, judged)[1] for run in sound])
    reference = against or best_on_validation(validation)
    if reference not in correct:
        raise TrainingError("no sound run is left to compare with", where=reference, now="lower the learning rate")
    groups = judged.groups[grouped]
    counted = {name: hits[:, grouped] for name, hits in correct.items()}
    drawn = resampled_worst_groups(list(counted.values()), groups, np.random.default_rng(settings.seed))
    resampled = dict(zip(correct, drawn, strict=True))
    others = [name for name in correct if name != reference]
    ours = worst_groups(counted[reference], groups)
    raw = [paired_p_value(worst_groups(counted[name], groups), ours) for name in others]
    p_values = dict(zip(others, holm(raw), strict=True))

    def row(name: str) -> Compared:
        method = find_method(name)
        if name not in correct:
            note = refused.get(name, "every run diverged")
            seeds = len(runs.get(name, []))
            return Compared(name, method.title, seeds=seeds, diverged=seeds, note=note)
        worst, average = worst_groups(counted[name], groups), correct[name].mean(axis=1)
        low, high = interval(resampled[name] - resampled[reference])
        apart = name != reference
        return Compared(
            name,
            method.title,
            seeds=len(runs[name]),
            diverged=len(runs[name]) - len(worst),
            validation=validation[name],
            worst_group=float(worst.mean()),
            worst_group_deviation=_deviation(worst.tolist()),
            average=float(average.mean()),
            average_deviation=_deviation(average.tolist()),
            difference=float(worst.mean() - ours.mean()) if apart else None,
            low=low if apart else None,
            high=high if apart else None,
            p_value=p_values.get(name),
            note=method.note,
        )

    order = [name for name in METHODS if name in runs or name in refused]
    order += [name for name in (*runs, *refused) if name not in order]
    rows = tuple(row(name) for name in order)
    return Comparison(split, reference, rows, _warnings(embedded, settings.attribute))


def best_on_validation(scores: dict[str, float]) -> str:
    """The trained method with the highest worst group on validation that was not fitted to that split.

    Raises:
        DespurError: there is none.
    """
    rivals = [
        name
        for name in scores
        if name != PRETRAINED.name and "fitted to the validation split" not in find_method(name).note
    ]
    if not rivals:
        raise DespurError("no method is left to compare", where="compare", now="choose methods that this study allows")
    return max(rivals, key=lambda name: scores[name])


def _warnings(embedded: Embedded, attribute: str | None) -> tuple[str, ...]:
    note = grouping_of(embedded, attribute).note
    return (*([note] if note else []), *small_groups(embedded, attribute))


def small_groups(embedded: Embedded, attribute: str | None = None) -> list[str]:
    """A sentence for every validation group with fewer than ``FEW_IMAGES`` images."""
    judged = split_of(embedded, "val", attribute)
    return group_warnings(judged.groups, judged.grouping.classes, judged.grouping.attribute_names)


def group_warnings(
    groups: Int[np.ndarray, "images"], classes: Sequence[str], attributes: str | Sequence[str]
) -> list[str]:
    """The same from the validation images' groups.

    Args:
        attributes: the attribute's name, or each class's own.
    """
    names = [attributes] * len(classes) if isinstance(attributes, str) else attributes
    sizes = np.bincount(groups[groups >= 0], minlength=2 * len(classes))
    return [
        f"only {size} validation images show {classes[group // 2]} {'with' if group % 2 else 'without'} "
        f"{names[group // 2]}; what was selected by them may be chance"
        for group, size in enumerate(sizes.tolist())
        if 0 < size < FEW_IMAGES
    ]


def _deviation(values: list[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
