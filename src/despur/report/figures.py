"""The page's Plotly figures. The style sheet sets their ink and grid colours, so that they follow its dark mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite
from typing import Any

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from despur.report.content import BackboneSection, Curve, MethodRow, Spread
from despur.report.words import encodable, rate_text, score_text


@dataclass(frozen=True)
class Mark:
    """How one method looks everywhere on the page: never told apart by colour alone."""

    colour: str
    symbol: str
    glyph: str
    dash: str


# Mid-tones that stand out from white and from near-black alike; glyphs print each Plotly symbol in the legend.
MARKS = (
    Mark("#8a8f98", "circle", "●", "solid"),
    Mark("#c9822b", "square", "■", "solid"),
    Mark("#c2577a", "diamond", "◆", "dash"),
    Mark("#7f72c4", "triangle-up", "▲", "dot"),
    Mark("#3f8fd0", "triangle-down", "▼", "solid"),
    Mark("#1f9d84", "star", "★", "solid"),
    Mark("#8c9a2f", "pentagon", "⬟", "dashdot"),
    Mark("#b5533c", "hexagon", "⬢", "longdash"),
    Mark("#5b8a72", "triangle-left", "◀", "dash"),
    Mark("#a0689c", "triangle-right", "▶", "dot"),
)
TERM_COLOURS = ("#3f8fd0", "#c9822b", "#1f9d84", "#c2577a", "#7f72c4", "#8c9a2f", "#8a8f98")


@dataclass(frozen=True)
class Figure:
    """A Plotly figure, its heading, and the same content in words for whoever cannot see it."""

    title: str
    plot: go.Figure
    description: str


def mark(index: int) -> Mark:
    """The look of a section's ``index``-th method; looks repeat after ten."""
    return MARKS[index % len(MARKS)]


def titles_of(section: BackboneSection) -> dict[str, str]:
    """Method titles in the order of the summary table; runs that have no row there come last, under their key."""
    rows = {row.method: row.title for row in section.rows}
    return rows | {method: method for method in section.curves if method not in rows}


def trade_offs(section: BackboneSection) -> list[Figure]:
    """Accuracy against AIoU, a point a method: on average, and in the worst group.

    Returns:
        those of the two figures in which there are at least two methods to compare.
    """
    average = [Point(row, mark(i), row.average, row.aiou_average) for i, row in enumerate(section.rows)]
    worst = [Point(row, mark(i), row.worst_group, row.aiou_worst_group) for i, row in enumerate(section.rows)]
    return [
        trade_off(title, known)
        for title, points in (("Average", average), ("Worst group", worst))
        if len(known := [point for point in points if point.is_known]) > 1
    ]


@dataclass(frozen=True)
class Point:
    """One method in a trade-off figure."""

    row: MethodRow
    look: Mark
    accuracy: Spread
    aiou: Spread | None

    @property
    def is_known(self) -> bool:
        """Whether both of its coordinates are numbers."""
        return self.aiou is not None and isfinite(self.aiou.mean) and isfinite(self.accuracy.mean)


def trade_off(title: str, points: Sequence[Point]) -> Figure:
    """Worst group against AIoU, a point a method."""
    plot, words = blank(), list[str]()
    across, up = list[float](), list[float]()
    for point in points:
        accuracy, aiou, look = point.accuracy, point.aiou or Spread(0.0), point.look
        sentence = (
            f"{point.row.title}: accuracy {spread_text(accuracy, rate_text)}%, AIoU {spread_text(aiou, score_text)}"
        )
        words.append(sentence)
        error_x, error_y = bar(100 * accuracy.deviation), bar(aiou.deviation)
        across += [100 * accuracy.mean - error_x, 100 * accuracy.mean + error_x]
        up += [aiou.mean - error_y, aiou.mean + error_y]
        plot.add_scatter(
            x=[100 * accuracy.mean],
            y=[aiou.mean],
            error_x={"array": [error_x], "color": look.colour, "thickness": 1, "width": 3},
            error_y={"array": [error_y], "color": look.colour, "thickness": 1, "width": 3},
            mode="markers",
            marker={"color": look.colour, "symbol": look.symbol, "size": 12},
            name=label(point.row.title),
            hovertext=[label(sentence)],
            hovertemplate="%{hovertext}<extra></extra>",
            meta={"method": point.row.method},
        )
    plot.update_xaxes(title="accuracy (%)", nticks=6, range=padded(across, least=2.0))
    plot.update_yaxes(title="AIoU", nticks=6, range=padded(up, least=0.02))
    return Figure(title, plot, "; ".join(words))


def worst_group_curves(section: BackboneSection) -> Figure | None:
    """Validation worst-group accuracy over epochs, a line a method, with a dot on the epoch that was kept."""
    plot, words = blank(), list[str]()
    for index, (method, title) in enumerate(titles_of(section).items()):
        curve = section.curves.get(method)
        if curve is None or not curve.epochs:
            continue
        look = mark(index)
        plot.add_scatter(
            x=list(curve.epochs),
            y=[brief(100 * value) for value in curve.worst_group],
            mode="lines",
            line={"color": look.colour, "dash": look.dash, "width": 2},
            name=label(title),
            hovertemplate=f"{hover_label(title)}<br>epoch %{{x}}: %{{y:.1f}}%<extra></extra>",
            meta={"method": method},
        )
        words.append(kept(plot, curve, look, title, method))
    if not words:
        return None
    plot.update_xaxes(title="epoch", nticks=6)
    plot.update_yaxes(title="validation worst group (%)", nticks=6)
    return Figure("Validation worst group", plot, "; ".join(words))


def kept(plot: go.Figure, curve: Curve, look: Mark, title: str, method: str) -> str:
    """Mark the epoch that was kept, and say in words where it stands."""
    if curve.best_epoch is None or curve.best_epoch not in curve.epochs:
        return f"{title}: {len(curve.epochs)} epochs, none kept"
    value = curve.worst_group[list(curve.epochs).index(curve.best_epoch)]
    sentence = f"{title}: epoch {curve.best_epoch} kept, {rate_text(value)}%"
    plot.add_scatter(
        x=[curve.best_epoch],
        y=[brief(100 * value)],
        mode="markers",
        marker={"color": look.colour, "symbol": look.symbol, "size": 10},
        hovertext=[label(sentence)],
        hovertemplate="%{hovertext}<extra></extra>",
        meta={"method": method},
    )
    return sentence


def term_curves(section: BackboneSection) -> list[Figure]:
    """Loss terms over epochs, a figure a method; a term has the same colour in all of them."""
    curves = {method: section.curves[method] for method in titles_of(section) if method in section.curves}
    names = list(dict.fromkeys(name for curve in curves.values() for name in curve.terms))
    colours = {name: TERM_COLOURS[index % len(TERM_COLOURS)] for index, name in enumerate(names)}
    titles = titles_of(section)
    return [term_figure(titles[method], curve, colours) for method, curve in curves.items() if curve.terms]


def term_figure(title: str, curve: Curve, colours: Mapping[str, str]) -> Figure:
    """Every loss term of a run over its epochs."""
    plot, words = blank(height=190), list[str]()
    for name, values in curve.terms.items():
        plot.add_scatter(
            x=list(curve.epochs),
            y=[brief(value) for value in values],
            mode="lines",
            line={"color": colours[name], "width": 2},
            name=label(name),
            hovertemplate=f"{hover_label(name)}<br>epoch %{{x}}: %{{y:.3g}}<extra></extra>",
        )
        finite = [value for value in values if isfinite(value)]
        words.append(f"{name} from {finite[0]:.3g} to {finite[-1]:.3g}" if finite else f"{name} never finite")
    plot.update_layout(
        showlegend=True,
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "itemclick": False},
        margin={"t": 24, "b": 24},
    )
    plot.update_xaxes(nticks=5)
    plot.update_yaxes(nticks=5)
    return Figure(title, plot, "; ".join(words))


def blank(height: int = 340) -> go.Figure:
    """An empty figure in the page's manner. It does not catch drags: on a telephone those scroll the page."""
    axis = {
        "fixedrange": True,
        "zeroline": False,
        "automargin": True,
        "ticks": "",
        "title": {"standoff": 8, "font": {"size": 12.5}},
    }
    return go.Figure(
        layout={
            "template": "none",
            "height": height,
            "margin": {"l": 48, "r": 12, "t": 12, "b": 44},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "system-ui, sans-serif", "size": 12.5},
            "showlegend": False,
            "dragmode": False,
            "hovermode": "closest",
            "hoverlabel": {"align": "left"},
            "xaxis": axis,
            "yaxis": axis,
        }
    )


def html(plot: go.Figure, identity: str) -> str:
    """The figure as an element and the script that draws it; expects ``plotly_script()`` earlier on the page."""
    config: dict[str, Any] = {"displayModeBar": False, "responsive": False}
    return plotly.io.to_html(plot, config=config, include_plotlyjs=False, full_html=False, div_id=identity)


def plotly_script() -> str:
    """plotly.js as the installed package ships it (4.8 MB), to be inlined once."""
    return get_plotlyjs()


def label(text: str) -> str:
    """Text for Plotly, which reads a little HTML in its labels: shown as it stands."""
    return escape(encodable(text))


def hover_label(text: str) -> str:
    """Text inside a hover template, where ``%{...}`` is a variable as well."""
    return label(text).replace("%{", "%&#123;")


def spread_text(spread: Spread, show: Callable[[float], str]) -> str:
    """``84.7 ± 1.8``, or the mean alone where there is one seed."""
    return show(spread.mean) + (f" ± {show(spread.deviation)}" if isfinite(spread.deviation) else "")


def padded(values: Sequence[float], least: float) -> list[float]:
    """An axis range with room for the marks around its points, at least ``least`` wide where all points agree."""
    room = max(0.08 * (max(values) - min(values)), least / 2)
    return [min(values) - room, max(values) + room]


def bar(deviation: float) -> float:
    """An error bar's length; a single seed has none."""
    return deviation if isfinite(deviation) else 0.0


def brief(value: float) -> float:
    """Five significant digits: more cannot be seen, and a page holds thousands of points."""
    return float(f"{value:.5g}")
