"""Group accuracies and their intervals (METHOD section 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from despur.errors import DataError
from despur.rank.statistics import wilson_interval

__all__ = ["AccuracyReport", "GroupAccuracy", "accuracy_report", "group_name", "group_rates"]


@dataclass(frozen=True)
class GroupAccuracy:
    """Accuracy of one group: the images of a class that have the attribute, or those that lack it, or all of them.

    Attributes:
        class_name, attribute, present: which group; the attribute is None where the class is one group.
        n: images in it; 0 for an empty group, whose rates are all None.
        accuracy: fraction in [0, 1].
        ci_low, ci_high: 95% Wilson interval of the accuracy.
    """

    class_name: str
    attribute: str | None
    present: bool
    n: int
    accuracy: float | None
    ci_low: float | None
    ci_high: float | None

    @property
    def name(self) -> str:
        """The group in a few words: "waterbird without water"; of a class that is one group, its name."""
        return group_name(self.class_name, self.attribute, present=self.present)


@dataclass(frozen=True)
class AccuracyReport:
    """Accuracies of one model on one split, as fractions in [0, 1].

    Attributes:
        average: mean over examples, those that are in no group too.
        adjusted_average: group accuracies weighted by the groups' training sizes; None where the training groups are
            not known, or where a group with training examples has none here, so that its accuracy is not known.
        worst_group: the lowest accuracy over groups that are not empty.
        groups: every group, empty ones too, in the order of the group index: 2 * label + present, and after those
            the classes that are one group.
    """

    average: float
    adjusted_average: float | None
    worst_group: float
    groups: tuple[GroupAccuracy, ...]

    @property
    def worst_group_index(self) -> int:
        """Index of the group with the lowest accuracy; the first of them on a tie."""
        rates = [math.inf if group.accuracy is None else group.accuracy for group in self.groups]
        return rates.index(min(rates))

    def to_json(self) -> dict[str, object]:
        """The value of "accuracy" in ``metrics.json``."""
        return {
            "average": self.average,
            "adjusted_average": self.adjusted_average,
            "worst_group": self.worst_group,
            "groups": [
                {
                    "class": group.class_name,
                    "attribute": group.attribute,
                    "present": group.present,
                    "n": group.n,
                    "accuracy": group.accuracy,
                    "ci_low": group.ci_low,
                    "ci_high": group.ci_high,
                }
                for group in self.groups
            ],
        }


def group_name(class_name: str, attribute: str | None, *, present: bool) -> str:
    """What a group is called: "waterbird with water"; without an attribute, as its class."""
    return class_name if attribute is None else f"{class_name} {'with' if present else 'without'} {attribute}"


def group_rates(
    correct: Bool[Tensor, "*runs images"], groups: Int[Tensor, "images"], count: int
) -> Float[Tensor, "*runs groups"]:
    """Fraction of each group that is correct, on the tensors' device; NaN for an empty group.

    Args:
        correct: one row a run, or no leading dimension for a single run.
        groups: group index of each image, in [0, count).
        count: how many groups there are.
    """
    hits = torch.zeros(*correct.shape[:-1], count, dtype=torch.float32, device=correct.device)
    hits.index_add_(-1, groups, correct.to(torch.float32))
    return hits / torch.bincount(groups, minlength=count)


def accuracy_report(
    correct: Bool[np.ndarray, "images"],
    groups: Int[np.ndarray, "images"],
    *,
    classes: Sequence[str],
    attribute: str | Sequence[str],
    training_groups: Int[np.ndarray, "training_images"] | None,
    whole: Sequence[str] = (),
) -> AccuracyReport:
    """Average, adjusted average and worst-group accuracy, and every group's with its interval.

    Args:
        correct: whether each image of the evaluated split is classified correctly.
        groups: group index of each of them, 2 * (place among ``classes``) + present, and from 2 * (how many classes)
            on the place among ``whole``; -1: in no group, so that it counts in the average alone.
        classes: names of the classes that the attribute splits, in the order of the group index; all, in label order,
            where it splits every class.
        attribute: the spurious attribute's name, or each class's own.
        training_groups: group index of each *training* image (not sizes of groups), whose counts weight the adjusted
            average; None: there is no adjusted average.
        whole: names of classes that are one group each.

    Raises:
        DataError: there are no images, or none that is in a group.
    """
    grouped = groups >= 0
    if not grouped.any():
        what = "none of the images to evaluate is in a group" if len(correct) else "there are no images to evaluate"
        raise DataError(what, now="evaluate a split that holds images of every group")
    attributes = [attribute] * len(classes) if isinstance(attribute, str) else list(attribute)
    named: list[tuple[str, str | None, bool]] = [
        *((name, own, present) for name, own in zip(classes, attributes, strict=True) for present in (False, True)),
        *((name, None, False) for name in whole),
    ]
    count = len(named)
    sizes = np.bincount(groups[grouped], minlength=count)
    hits = np.bincount(groups[grouped & correct], minlength=count)
    filled = sizes > 0
    rates = np.divide(hits, sizes, out=np.full(count, np.nan), where=filled)
    low, high = np.full(count, np.nan), np.full(count, np.nan)
    low[filled], high[filled] = wilson_interval(hits[filled], sizes[filled])

    return AccuracyReport(
        average=float(np.mean(correct)),
        adjusted_average=None if training_groups is None else _adjusted_average(rates, training_groups),
        worst_group=float(np.min(rates[filled])),
        groups=tuple(
            GroupAccuracy(
                class_name=class_name,
                attribute=own,
                present=present,
                n=int(sizes[group]),
                accuracy=float(rates[group]) if filled[group] else None,
                ci_low=float(low[group]) if filled[group] else None,
                ci_high=float(high[group]) if filled[group] else None,
            )
            for group, (class_name, own, present) in enumerate(named)
        ),
    )


def _adjusted_average(
    rates: Float[np.ndarray, "groups"], training_groups: Int[np.ndarray, "training_images"]
) -> float | None:
    """Rates weighted by training sizes; None where a group that weighs something has no rate, or nothing weighs."""
    weights = np.bincount(training_groups[training_groups >= 0], minlength=len(rates))
    weighed = weights > 0
    if not weighed.any() or np.isnan(rates[weighed]).any():
        return None
    return float(np.average(rates[weighed], weights=weights[weighed]))
