"""What a share of the repair buys: accuracy over the blend of original and repaired weights, as a page of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import plotly.io

from despur.report.figures import MARKS, Figure, blank, brief
from despur.report.words import encodable, rate_text


@dataclass(frozen=True)
class BlendPoint:
    """One blend of the original weights and the repaired ones.

    Attributes:
        share: of the repaired weights, in [0, 1].
        average, worst_group: accuracies, fractions.
    """

    share: float
    average: float
    worst_group: float


def blend_figure(run: str, points: Sequence[BlendPoint]) -> Figure:
    """Average and worst-group accuracy over the share of a run's weights, a line each."""
    plot = blank()
    lines = {"average": [one.average for one in points], "worst group": [one.worst_group for one in points]}
    for look, (name, rates) in zip(MARKS, lines.items(), strict=False):
        plot.add_scatter(
            x=[one.share for one in points],
            y=[brief(100 * rate) for rate in rates],
            mode="lines+markers",
            line={"color": look.colour, "dash": look.dash, "width": 2},
            marker={"color": look.colour, "symbol": look.symbol, "size": 8},
            name=name,
            hovertemplate=f"{name}<br>share %{{x}}: %{{y:.1f}}%<extra></extra>",
        )
    plot.update_layout(showlegend=True, legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"})
    plot.update_xaxes(title="share of the repaired weights", dtick=0.2)
    plot.update_yaxes(title="accuracy (%)", nticks=6)
    words = "; ".join(
        f"{one.share:g}: average {rate_text(one.average)}%, worst group {rate_text(one.worst_group)}%" for one in points
    )
    return Figure(f"From the original weights to {run}", plot, words)


def figure_page(figure: Figure) -> str:
    """A figure as an HTML page that needs nothing beside it, with the same content in words below."""
    drawn = plotly.io.to_html(
        figure.plot, config={"displayModeBar": False}, include_plotlyjs=True, full_html=False, div_id="figure"
    )
    title, words = escape(encodable(figure.title)), escape(encodable(figure.description))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n'
        f"<body><h1>{title}</h1>\n<figure>{drawn}<figcaption>{words}</figcaption></figure></body></html>\n"
    )
