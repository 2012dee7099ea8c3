"""What a report holds, independent of how any of it was computed. Rates are fractions in [0, 1]; NaN is "no number"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import isfinite, nan
from statistics import fmean, stdev
from typing import TypeGuard

from PIL import Image


def is_number(value: float | None) -> TypeGuard[float]:
    """Whether there is a value to print."""
    return value is not None and isfinite(value)


@dataclass(frozen=True)
class Spread:
    """A mean over seeds and its standard deviation (n - 1), which is NaN for a single seed."""

    mean: float
    deviation: float = nan

    @classmethod
    def over(cls, values: Sequence[float]) -> Spread:
        """Summarise one value a seed; those that are not finite are left out, and none left gives NaN."""
        finite = [value for value in values if isfinite(value)]
        if not finite:
            return cls(nan)
        return cls(fmean(finite), stdev(finite) if len(finite) > 1 else nan)


@dataclass(frozen=True)
class MethodRow:
    """One method in the summary table: means over the seeds that did not diverge.

    Attributes:
        method: its key, shared with ``BackboneSection.curves``.
        title: how it is printed.
        seeds: how many were run (1 for a method that is not trained).
        diverged: how many of them stopped at a number that is not finite; they are in none of the means.
        note: what a reader must know to compare it ("is given the group labels").
    """

    method: str
    title: str
    seeds: int
    average: Spread
    worst_group: Spread
    adjusted_average: Spread | None = None
    aiou_average: Spread | None = None
    aiou_worst_group: Spread | None = None
    diverged: int = 0
    note: str = ""


@dataclass(frozen=True)
class Rate:
    """An accuracy with its 95% interval; all None where there is nothing to count."""

    accuracy: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether there is an accuracy to show."""
        return is_number(self.accuracy)

    @property
    def has_interval(self) -> bool:
        """Whether its interval is known."""
        return is_number(self.low) and is_number(self.high)


@dataclass(frozen=True)
class GroupRow:
    """One group before and after.

    Attributes:
        class_name: the class.
        attribute: the attribute that splits it; None where the class is one group.
        present: whether this is the group that has the attribute.
        phrase: the group in words ("waterbird on land").
        n: test images in the group; 0: an empty group.
        before: zero-shot, or whatever stands for the model as it came.
        after: the repaired model; ``Rate()`` where there is none.
    """

    class_name: str
    attribute: str | None
    present: bool
    phrase: str
    n: int
    before: Rate
    after: Rate = field(default_factory=Rate)


@dataclass(frozen=True)
class Look:
    """Where one group's maps lie, as means over its images in which the attribute was detected; shares in [0, 1].

    Attributes:
        phrase: the group in words.
        n: those images.
        object_area, attribute_area: what a map that is the same everywhere would give.
        before, after: (share on the object, share on the attribute); None where there are no maps.
    """

    phrase: str
    n: int
    object_area: float
    attribute_area: float
    before: tuple[float, float]
    after: tuple[float, float] | None = None


@dataclass(frozen=True)
class MapCheck:
    """Whether one model's maps may be trusted (:func:`despur.explain.trust.check_maps`).

    Attributes:
        title: the model.
        deletion, insertion: areas under the curves of the class's probability, in [0, 1].
        deletion_random, insertion_random: the same for maps of noise.
        agreement: rank correlation with the map under shuffled heads, in [-1, 1].
    """

    title: str
    deletion: float
    deletion_random: float
    insertion: float
    insertion_random: float
    agreement: float

    @property
    def better_than_noise(self) -> bool:
        """Whether removing what the map shows first hurts sooner than chance, and showing it first helps sooner."""
        return self.deletion < self.deletion_random and self.insertion > self.insertion_random


@dataclass(frozen=True)
class Curve:
    """One training run, an entry an epoch in every sequence.

    Attributes:
        epochs: epoch numbers.
        worst_group: validation worst-group accuracy.
        terms: unweighted loss terms by name.
        best_epoch: the epoch that was kept.
    """

    epochs: Sequence[int]
    worst_group: Sequence[float]
    terms: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    best_epoch: int | None = None


@dataclass(frozen=True)
class Panel:
    """One picture of a strip: the photograph, or an explanation map drawn over it.

    Attributes:
        image: any mode and size; it is embedded at a modest size.
        caption: which model, or "photograph".
        said: the class that this model predicted; None where no model is concerned.
        correct: whether ``said`` is the label.
        aiou: AIoU of the map, if known.
    """

    image: Image.Image
    caption: str
    said: str | None = None
    correct: bool | None = None
    aiou: float | None = None


@dataclass(frozen=True)
class Strip:
    """One image seen by several models, left to right.

    Attributes:
        title: which image ("0123.jpg").
        group: its group in words; consecutive strips of one group share a heading.
        panels: pictures of equal shape.
    """

    title: str
    group: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class BackboneSection:
    """Everything about one backbone.

    Attributes:
        spec: as the user named it ("open_clip:RN50/openai").
        rows: the summary table, in the order to be printed.
        groups: the group table; both groups of a class under one attribute belong together.
        random_weights: nothing was learnt, so that accuracies mean nothing.
        split: the split that rows and groups are of.
        before_title: the model that ``GroupRow.before`` is of.
        after_title: the repaired model that ``GroupRow.after`` is of; None where there is none.
        shown_seed: the seed that the group table, curves and strips are of, where there are several.
        curves: training runs by ``MethodRow.method``.
        looks: where the maps lie, by group; empty where nothing was detected or explained.
        map_checks: what the maps are worth, for the models that were compared.
        strips: images with explanation maps.
        strips_chosen: how those images were chosen ("at random"); empty where it is not known.
        strips_split: the split that they are of; empty: ``split``.
    """

    spec: str
    rows: Sequence[MethodRow]
    groups: Sequence[GroupRow] = ()
    random_weights: bool = False
    split: str = "test"
    before_title: str = "zero-shot"
    after_title: str | None = None
    shown_seed: int | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict[str, Curve])
    looks: Sequence[Look] = ()
    map_checks: Sequence[MapCheck] = ()
    strips: Sequence[Strip] = ()
    strips_chosen: str = ""
    strips_split: str = ""


@dataclass(frozen=True)
class Report:
    """A whole page.

    Attributes:
        title: the heading.
        dataset: the dataset's spec.
        sections: one a backbone.
        created: when, in the time zone to be printed.
        stage_seconds: wall seconds by stage, in order.
        settings: by stage; values may be nested mappings and lists.
        versions: of packages, by name.
        notes: sentences to be read with the results (quarantined images, what was left out).
    """

    title: str
    dataset: str
    sections: Sequence[BackboneSection]
    created: datetime
    stage_seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: Sequence[str] = ()
