from __future__ import annotations

from dataclasses import replace
from math import nan

from despur.report import BackboneSection, Curve, Spread
from despur.report.figures import html, label, mark, term_curves, trade_offs, worst_group_curves


def test_the_trade_off_has_a_point_and_a_sentence_a_method(section: BackboneSection) -> None:
    average, worst_group = trade_offs(section)
    assert [(trace.x[0], trace.y[0]) for trace in worst_group.plot.data] == [(41.0, 0.48), (84.0, 0.587)]
    assert average.description == (
        "zero-shot: accuracy 79.0%, AIoU 0.500; clip+lc+vc+vs: accuracy 90.6 ± 1.1%, AIoU 0.654 ± 0.012"
    )


def test_one_method_alone_or_no_aiou_is_no_trade_off(section: BackboneSection) -> None:
    assert trade_offs(replace(section, rows=section.rows[:1])) == []
    without = [replace(row, aiou_average=None, aiou_worst_group=Spread(nan)) for row in section.rows]
    assert trade_offs(replace(section, rows=without)) == []


def test_a_method_looks_the_same_in_every_figure(section: BackboneSection) -> None:
    trained = mark(1)
    assert trade_offs(section)[0].plot.data[1].marker.color == trained.colour
    assert worst_group_curves(section).plot.data[0].line.color == trained.colour


def test_the_epoch_that_was_kept_is_marked(section: BackboneSection) -> None:
    figure = worst_group_curves(section)
    line, kept = figure.plot.data
    assert (list(line.y), list(kept.x), list(kept.y)) == ([50.0, 80.0, 70.0], [1], [80.0])
    assert figure.description == "clip+lc+vc+vs: epoch 1 kept, 80.0%"


def test_loss_terms_are_drawn_a_figure_a_method(section: BackboneSection) -> None:
    curves = {**section.curves, "other": Curve([0, 1], [0.5, 0.5], {"vs": [nan, nan]})}
    first, second = term_curves(replace(section, curves=curves))
    assert first.description == "clip from 2 to 0.5; vs from 1 to 0.8"
    assert (second.title, second.description) == ("other", "vs never finite")
    assert first.plot.data[1].line.color == second.plot.data[0].line.color


def test_without_runs_there_are_no_curves(section: BackboneSection) -> None:
    bare = replace(section, curves={})
    assert worst_group_curves(bare) is None
    assert term_curves(bare) == []


def test_plotly_gets_names_as_text(section: BackboneSection) -> None:
    assert label("</script><b>&") == "&lt;/script&gt;&lt;b&gt;&amp;"
    named = replace(section, rows=[replace(row, title="</script><b>%{x}") for row in section.rows])
    plot = worst_group_curves(named).plot
    assert html(plot, "figure-1").count("</script>") == 1
    assert plot.data[0].hovertemplate.count("%{x}") == 1
