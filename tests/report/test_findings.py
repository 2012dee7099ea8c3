"""The sentences follow the numbers, also where the repair failed."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import pytest

from despur.report import BackboneSection, GroupRow, Rate, Report
from despur.report.findings import findings, warning, widest_gap

WATERBIRD_ON_LAND = 2


def changed(section: BackboneSection, index: int, **changes: object) -> BackboneSection:
    groups = list(section.groups)
    groups[index] = replace(groups[index], **changes)
    return replace(section, groups=groups)


def test_the_shortcut_and_its_repair_are_told_in_two_sentences(section: BackboneSection) -> None:
    assert findings(section)[:2] == [
        "Before (zero-shot), images of “waterbird on land” are recognised 41% of the time; "
        "of “waterbird on water”, 97%.",
        "After clip+lc+vc+vs: 84% and 95%.",
    ]


def test_a_shown_seed_is_named(section: BackboneSection) -> None:
    assert findings(replace(section, shown_seed=3))[1].startswith("After clip+lc+vc+vs (seed 3): 84%")


def test_all_images_together_are_weighted_by_the_groups_sizes(section: BackboneSection) -> None:
    # (300 * 0.98 + 300 * 0.80 + 200 * 0.41 + 200 * 0.97) / 1000 = 0.81; after: 0.907
    assert findings(section)[2] == "Over all 1,000 images: 81% before, 91% after."


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (Rate(0.20, 0.15, 0.26), "20% and 95%; “waterbird on land” got worse"),
        (Rate(0.41, 0.37, 0.45), "41% and 95%; “waterbird on land” did not improve"),
        (Rate(0.43, 0.39, 0.47), "43% and 95%; the rise of “waterbird on land” is within its 95% intervals"),
    ],
)
def test_a_repair_that_failed_is_said_to_have_failed(section: BackboneSection, after: Rate, words: str) -> None:
    assert findings(changed(section, WATERBIRD_ON_LAND, after=after))[1] == f"After clip+lc+vc+vs: {words}."


def test_a_gap_that_only_moved_up_is_not_called_smaller(section: BackboneSection) -> None:
    groups = [
        GroupRow("cup", "hand", False, "cup", 100, Rate(0.30, 0.25, 0.35), Rate(0.50, 0.45, 0.55)),
        GroupRow("cup", "hand", True, "cup with hand", 100, Rate(0.60, 0.55, 0.65), Rate(0.85, 0.80, 0.90)),
    ]
    assert findings(replace(section, groups=groups))[1].endswith("the difference between the two did not shrink.")


def test_a_group_that_pays_for_the_repair_is_named(section: BackboneSection) -> None:
    told = findings(changed(section, 0, after=Rate(0.60, 0.55, 0.65)))
    assert "The lowest group is now “landbird on land”, 60% (it was 98%)." in told


def test_overlapping_intervals_are_no_shortcut(section: BackboneSection) -> None:
    groups = [
        GroupRow("cup", "hand", False, "cup", 9, Rate(0.60, 0.30, 0.85)),
        GroupRow("cup", "hand", True, "cup with hand", 9, Rate(0.80, 0.45, 0.95)),
    ]
    first = findings(replace(section, groups=groups))[0]
    assert first.startswith("No clear shortcut before")
    assert first.endswith("80%, and the 95% intervals overlap.")


def test_a_sure_gap_comes_before_a_wider_one_of_three_images(groups: list[GroupRow]) -> None:
    by_chance = [
        GroupRow("cup", "hand", False, "cup", 3, Rate(0.0, 0.0, 0.56)),
        GroupRow("cup", "hand", True, "cup with hand", 3, Rate(1.0, 0.44, 1.0)),
    ]
    assert widest_gap([*by_chance, *groups]).low.phrase == "waterbird on land"


def test_an_empty_group_is_named_and_another_class_is_told_of(section: BackboneSection) -> None:
    told = findings(changed(section, WATERBIRD_ON_LAND, n=0, before=Rate(), after=Rate()))
    assert told[0].startswith("Before (zero-shot), images of “landbird on water” are recognised 80%")
    assert told[-1] == "1 group has no images and no result: “waterbird on land”."


def test_no_complete_pair_of_groups_makes_no_claim(section: BackboneSection) -> None:
    told = findings(replace(section, groups=[section.groups[0], replace(section.groups[2], n=0, before=Rate())]))
    assert told == [
        "1 group has no images and no result: “waterbird on land”.",
        "No class has results both with and without the attribute.",
    ]


def test_without_groups_no_shortcut_can_be_measured(section: BackboneSection) -> None:
    assert findings(replace(section, groups=[])) == [
        "No attribute splits the classes into groups, so no shortcut can be measured."
    ]


def test_without_a_repaired_model_there_is_no_after(section: BackboneSection) -> None:
    groups = [replace(group, after=Rate()) for group in section.groups]
    told = findings(replace(section, groups=groups, after_title=None))
    assert told[1:] == ["No repaired model is part of this report."]


def test_not_a_number_is_no_result(section: BackboneSection) -> None:
    told = findings(changed(section, WATERBIRD_ON_LAND, after=Rate(nan, nan, nan)))
    assert told[1] == "After clip+lc+vc+vs, there is no result for “waterbird on land”."
    assert not any("Over all" in sentence for sentence in told)


def test_random_weights_make_no_claim(section: BackboneSection, report: Report) -> None:
    drawn = replace(section, random_weights=True)
    assert len(findings(drawn)) == 1
    assert "%" not in findings(drawn)[0]
    assert warning(report) is None
    assert warning(replace(report, sections=[drawn])) == (
        "The weights of “birdland:resnet” are random, so the accuracies and AIoU on this page mean nothing."
    )
    assert "under that heading mean nothing" in str(warning(replace(report, sections=[section, drawn])))
