from __future__ import annotations

from dataclasses import replace
from io import StringIO
from math import inf, isnan, nan

import pytest
from rich.console import Console

from despur.report import BackboneSection, MethodRow, Spread, summary_table
from despur.report.summary import COLUMNS, caption, cells, columns, remarks

AVERAGE, WORST_GROUP = COLUMNS[0], COLUMNS[2]


def printed(section: BackboneSection, width: int = 80) -> str:
    console = Console(width=width, file=StringIO())
    console.print(summary_table(section))
    return console.file.getvalue()


def test_a_spread_leaves_out_what_is_not_finite() -> None:
    assert Spread.over([0.5, nan, 0.7, inf]) == Spread(pytest.approx(0.6), pytest.approx(0.1 * 2**0.5))
    assert Spread.over([0.5]).mean == 0.5
    assert isnan(Spread.over([0.5]).deviation)
    assert isnan(Spread.over([nan]).mean)


def test_the_best_mean_of_a_column_is_marked(rows: list[MethodRow]) -> None:
    assert [(cell.mean, cell.deviation, cell.best) for cell in cells(rows, AVERAGE)] == [
        ("79.0", "", False),
        ("90.6", "1.1", True),
    ]


def test_means_that_print_alike_are_both_best(rows: list[MethodRow]) -> None:
    alike = [replace(rows[0], average=Spread(0.90602)), replace(rows[1], average=Spread(0.90598))]
    assert [cell.best for cell in cells(alike, AVERAGE)] == [True, True]


def test_a_single_method_is_not_best_of_anything(rows: list[MethodRow]) -> None:
    assert [cell.best for cell in cells(rows[:1], AVERAGE)] == [False]
    assert "Bold" not in caption(rows[:1], "test")


def test_a_method_that_diverged_under_a_seed_is_shown_and_never_best(rows: list[MethodRow]) -> None:
    rivals = [*rows, replace(rows[1], method="erm", average=Spread(0.99), diverged=2)]
    assert [cell.best for cell in cells(rivals, AVERAGE)] == [False, True, False]
    assert remarks(rivals[2], rivals) == ["2 of 5 seeds diverged"]
    assert "leave out the seeds that diverged" in caption(rivals, "test")


def test_a_method_all_of_whose_seeds_diverged_has_no_number(rows: list[MethodRow]) -> None:
    failed = replace(rows[1], worst_group=Spread(nan), diverged=5)
    cell = cells([rows[0], failed], WORST_GROUP)[1]
    assert (cell.mean, cell.deviation, cell.best) == ("–", "", False)


def test_columns_without_a_number_are_left_out(rows: list[MethodRow]) -> None:
    bare = [replace(row, adjusted_average=None, aiou_average=None, aiou_worst_group=None) for row in rows]
    assert [column.title for column in columns(bare)] == ["average", "worst group"]


def test_fewer_seeds_than_the_others_are_said(rows: list[MethodRow]) -> None:
    assert [remarks(row, rows) for row in rows] == [["1 seed"], []]
    assert caption(rows[:1], "test") == "Split “test”: accuracies in %, one seed, so no standard deviation."


def test_the_terminal_table_holds_every_number_within_80_columns(section: BackboneSection) -> None:
    text = printed(section)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "…" not in text
    for expected in ("90.6 ± 1.1", "84.0 ± 2.0", "93.0 ± 1.0", "0.654 ± 0.012", "0.587 ± 0.030", "zero-shot"):
        assert expected in text


def test_the_terminal_table_reads_no_markup_from_names(section: BackboneSection) -> None:
    odd = replace(section, spec="[bold]spec[/]", rows=[replace(section.rows[0], title="[red]ERM[/red]")])
    text = printed(odd)
    assert "[bold]spec[/]" in text
    assert "[red]ERM[/red]" in text
