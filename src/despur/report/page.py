"""One HTML file that opens offline: everything it shows is inside it, and its own policy forbids it to fetch more."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from math import isfinite
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from despur.report import figures, findings, strips, summary, words
from despur.report.content import BackboneSection, Rate, Report
from despur.workspace import write_whole


@dataclass(frozen=True)
class Drawn:
    """A figure as the template needs it."""

    title: str
    description: str
    html: Markup


def write_report(path: Path, report: Report) -> None:
    """Write the page as a whole; the same report gives the same bytes.

    Args:
        path: the file, replaced if it exists; missing folders are made.
        report: what to show.
    """
    page = render(report).encode("utf-8", errors="backslashreplace")
    with write_whole(path) as unfinished:
        unfinished.write_bytes(page)


def render(report: Report) -> str:
    """The page as text: what ``write_report`` writes."""
    identities = (f"figure-{number}" for number in count(1))

    def drawn(figure: figures.Figure) -> Drawn:
        # Plotly's JSON escapes "<", ">" and "/", and our labels are escaped before they become JSON.
        return Drawn(figure.title, figure.description, Markup(figures.html(figure.plot, next(identities))))

    def pictures(section: BackboneSection) -> dict[str, list[Drawn]]:
        curves = figures.worst_group_curves(section)
        return {
            "trade_offs": [drawn(figure) for figure in figures.trade_offs(section)],
            "worst_group": [drawn(curves)] if curves else [],
            "terms": [drawn(figure) for figure in figures.term_curves(section)],
        }

    sections = [(section, pictures(section)) for section in report.sections]
    has_figures = any(figure for _, drawings in sections for figure in drawings.values())
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            sections=sections,
            warning=findings.warning(report),
            plotly=Markup(figures.plotly_script()) if has_figures else None,
            figures=figures,
            findings=findings,
            strips=strips,
            summary=summary,
            words=words,
        )
    )


def environment() -> Environment:
    """Templates that escape whatever they are given and refuse a name that is not there."""
    made = Environment(
        loader=PackageLoader("despur.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        rate=words.rate_text,
        interval=interval,
        duration=words.duration,
        score=words.score_text,
        at=at,
        breakable=breakable,
    )
    return made


def interval(rate: Rate) -> str:
    """A rate's 95% interval in percent: ``37.2–44.9``."""
    if not rate.has_interval:
        return ""
    return f"{words.rate_text(rate.low)}–{words.rate_text(rate.high)}"


def breakable(title: str) -> Markup:
    """A method's title that a narrow column may break after each term: ``clip+<wbr>vc``."""
    return Markup("+<wbr>").join(escape(term) for term in title.split("+"))


def at(rate: float) -> str:
    """A rate as a position on a bar's track, in CSS."""
    return f"{100 * min(max(rate, 0.0), 1.0):.2f}%" if isfinite(rate) else "0%"
