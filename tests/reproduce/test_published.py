"""The published numbers agree with each other, so that none was mistyped where the paper prints it twice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from despur.mitigate.methods import find_method
from despur.reproduce.published import TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5, PublishedRow


@pytest.mark.parametrize("model", TABLE_2)
def test_table_2_weighted_by_table_1_is_the_zero_shot_row_of_table_4(model: str):
    sizes = TABLE_1
    average = sum(TABLE_2[model][group] * size for group, size in sizes.items()) / sum(sizes.values())
    (row,) = [row for row in TABLE_4 if (row.model, row.method) == (model, "pretrained")]
    assert average == pytest.approx(row.average, abs=0.001)
    assert min(TABLE_2[model].values()) == pytest.approx(row.worst_group, abs=0.001)


SECTION = (Path(__file__).parents[2] / "docs" / "method.md").read_text(encoding="utf-8").partition("## 6. Published")[2]
"""Where the documentation prints the same numbers, typed from the paper on their own."""

ROWS = {"pretrained": "pre-trained", "clip": "CLIP loss", "erm": "ERM", "group-dro": "Group DRO"}


def printed(row: PublishedRow) -> str:
    rates = [f"{100 * rate:.1f}" for rate in (row.average, row.worst_group)]
    return ", ".join([*rates, *(f"{aiou:.3f}" for aiou in (row.aiou_average, row.aiou_worst_group))])


def test_tables_4_and_5_are_those_of_the_documentation():
    before, after = SECTION.split("Table 5, ")
    assert len(TABLE_4) == 12
    assert len(TABLE_5) == 5
    for method in dict.fromkeys(row.method for row in TABLE_4):
        cells = " | ".join(printed(row) for row in TABLE_4 if row.method == method)
        assert f"| {ROWS.get(method, method)} | {cells} |" in before
    for row in TABLE_5:
        assert f"| {ROWS.get(row.method, row.method)} | {printed(row)} |" in after


def test_tables_1_to_3_are_those_of_the_documentation():
    plain = re.sub(r"\s+", " ", SECTION)
    for groups in TABLE_2.values():
        numbers = [
            f"{100 * groups[name, False]:.2f} / {100 * groups[name, True]:.2f}" for name in ("landbird", "waterbird")
        ]
        assert f"landbirds {numbers[0]}, waterbirds {numbers[1]}" in plain
    for line in TABLE_3:
        points = f"{100 * line.discrepancy:.3g}"
        assert f"{line.class_name}, {line.attribute}, {line.confused_class}, {points}" in plain
    assert ", ".join(str(size) for size in TABLE_1.values()) in plain


def test_every_published_method_is_one_of_ours():
    assert {find_method(row.method).name for row in TABLE_4} == {row.method for row in TABLE_4}
