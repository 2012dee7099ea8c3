"""The shortcut in words: sentences that follow from the group table, also where the repair did not work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import nan

from despur.report.content import BackboneSection, GroupRow, Rate, Report, is_number
from despur.report.words import counted, listed, percent, quoted


@dataclass(frozen=True)
class Gap:
    """The two groups of one class under one attribute: the one that is recognised less often, and the other."""

    low: GroupRow
    high: GroupRow

    @property
    def size(self) -> float:
        """Accuracy of the best recognised group minus that of the worst, before the repair."""
        return known(self.high.before) - known(self.low.before)


def warning(report: Report) -> str | None:
    """The page's first line where weights are random: the accuracies mean nothing."""
    drawn = [quoted(section.spec) for section in report.sections if section.random_weights]
    if not drawn:
        return None
    if len(drawn) == len(report.sections):
        return f"The weights of {listed(drawn)} are random, so the accuracies and AIoU on this page mean nothing."
    return f"The weights of {listed(drawn)} are random, so accuracies and AIoU under that heading mean nothing."


def findings(section: BackboneSection) -> list[str]:
    """What the groups show: the shortcut, what became of it, and what the repair cost elsewhere.

    Returns:
        one to four sentences; no claim is made from random weights.
    """
    if section.random_weights:
        return [
            "The weights are random: what follows shows that every stage ran, and how long it took, not that it helps."
        ]
    if not section.groups:
        return ["No attribute splits the classes into groups, so no shortcut can be measured."]
    if all(row.attribute is None for row in section.groups):
        told = "No shortcut is known, so that each class is one group and nothing here says whether one is gone."
        return [told, *side_effects(section), *emptiness(section.groups)]
    gap = widest_gap(section.groups)
    if gap is None:
        return [*emptiness(section.groups), "No class has results both with and without the attribute."]
    return [shortcut(gap, section), repair(gap, section), *side_effects(section), *emptiness(section.groups)]


def widest_gap(groups: Sequence[GroupRow]) -> Gap | None:
    """The class and attribute whose two groups differ most before the repair; None where no pair is complete.

    A difference beyond the 95% intervals comes before any that is not: a group of three images can differ by chance.
    """

    def pair(group: GroupRow) -> tuple[str, str]:
        return (group.class_name, group.attribute or "")

    gaps: list[Gap] = []
    for _, members in groupby(sorted(groups, key=pair), key=pair):
        measured = sorted((row for row in members if row.before.is_known), key=lambda row: known(row.before))
        if len(measured) > 1:
            gaps.append(Gap(measured[0], measured[-1]))
    return max(gaps, key=lambda gap: (clearly_below(gap.low.before, gap.high.before), gap.size), default=None)


def shortcut(gap: Gap, section: BackboneSection) -> str:
    """The first sentence: how often either group is recognised before."""
    low, high = percent(known(gap.low.before)), percent(known(gap.high.before))
    rates = f"images of {quoted(gap.low.phrase)} are recognised {low} of the time; of {quoted(gap.high.phrase)}, {high}"
    if clearly_below(gap.low.before, gap.high.before):
        return f"Before ({section.before_title}), {rates}."
    overlap = ", and the 95% intervals overlap" if gap.low.before.has_interval and gap.high.before.has_interval else ""
    return f"No clear shortcut before ({section.before_title}): {rates}{overlap}."


def repair(gap: Gap, section: BackboneSection) -> str:
    """The second sentence: the same two groups after, and whether that is better."""
    if section.after_title is None:
        return "No repaired model is part of this report."
    name = section.after_title + ("" if section.shown_seed is None else f" (seed {section.shown_seed})")
    if not gap.low.after.is_known:
        return f"After {name}, there is no result for {quoted(gap.low.phrase)}."
    low = percent(known(gap.low.after))
    high = f" and {percent(known(gap.high.after))}" if gap.high.after.is_known else ""
    return f"After {name}: {low}{high}{verdict(gap)}."


def verdict(gap: Gap) -> str:
    """What the second sentence adds where the repair failed or is not sure to have worked; empty where it worked."""
    before, after, subject = gap.low.before, gap.low.after, quoted(gap.low.phrase)
    if clearly_below(after, before):
        return f"; {subject} got worse"
    if known(after) <= known(before):
        return f"; {subject} did not improve"
    if not clearly_below(before, after):
        return f"; the rise of {subject} is within its 95% intervals"
    if gap.high.after.is_known and abs(known(gap.high.after) - known(after)) >= gap.size:
        return "; the difference between the two did not shrink"
    return ""


def side_effects(section: BackboneSection) -> list[str]:
    """Where the lowest group is now, if it moved, and what happened to all images together."""
    both = [row for row in section.groups if row.before.is_known and row.after.is_known]
    if section.after_title is None or not both:
        return []
    worst_before = min(both, key=lambda row: known(row.before))
    worst_after = min(both, key=lambda row: known(row.after))
    sentences: list[str] = []
    if worst_after is not worst_before:
        was, now = percent(known(worst_after.before)), percent(known(worst_after.after))
        sentences.append(f"The lowest group is now {quoted(worst_after.phrase)}, {now} (it was {was}).")
    images = sum(row.n for row in both)
    # Under several attributes every image is in several groups, and their sum would count it as often.
    if len({row.attribute for row in both} - {None}) <= 1 and images == sum(row.n for row in section.groups) > 0:
        overall = [sum(row.n * known(rate(row)) for row in both) / images for rate in (before_of, after_of)]
        sentences.append(f"Over all {images:,} images: {percent(overall[0])} before, {percent(overall[1])} after.")
    return sentences


def emptiness(groups: Sequence[GroupRow]) -> list[str]:
    """One sentence that names the groups without images."""
    empty = [quoted(row.phrase) for row in groups if row.n == 0]
    if not empty:
        return []
    return [f"{counted(len(empty), 'group has', 'groups have')} no images and no result: {listed(empty)}."]


def clearly_below(lower: Rate, higher: Rate) -> bool:
    """Whether the 95% intervals are apart; without intervals, whether the accuracies differ."""
    if is_number(lower.high) and is_number(higher.low):
        return lower.high < higher.low
    return known(lower) < known(higher)


def before_of(row: GroupRow) -> Rate:
    """The group's accuracy before the repair."""
    return row.before


def after_of(row: GroupRow) -> Rate:
    """The group's accuracy after it."""
    return row.after


def known(rate: Rate) -> float:
    """The accuracy of a rate, NaN where it has none."""
    return nan if rate.accuracy is None else rate.accuracy
