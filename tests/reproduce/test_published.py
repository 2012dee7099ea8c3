"""The published numbers agree with each other, so that none was mistyped where the paper prints it twice."""

from __future__ import annotations

import pytest

from despur.mitigate.methods import find_method
from despur.reproduce.published import TABLE_1, TABLE_2, TABLE_4


@pytest.mark.parametrize("model", TABLE_2)
def test_table_2_weighted_by_table_1_is_the_zero_shot_row_of_table_4(model: str):
    sizes = TABLE_1
    average = sum(TABLE_2[model][group] * size for group, size in sizes.items()) / sum(sizes.values())
    (row,) = [row for row in TABLE_4 if (row.model, row.method) == (model, "pretrained")]
    assert average == pytest.approx(row.average, abs=0.001)
    assert min(TABLE_2[model].values()) == pytest.approx(row.worst_group, abs=0.001)


def test_every_published_method_is_one_of_ours():
    assert {find_method(row.method).name for row in TABLE_4} == {row.method for row in TABLE_4}
