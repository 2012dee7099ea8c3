"""The HTML page and its figures, and the same table for the terminal."""

from despur.report.content import (
    BackboneSection,
    Curve,
    GroupRow,
    Look,
    MapCheck,
    MethodRow,
    Panel,
    Rate,
    Report,
    Spread,
    Strip,
)
from despur.report.page import write_report
from despur.report.terminal import summary_table

__all__ = [
    "BackboneSection",
    "Curve",
    "GroupRow",
    "Look",
    "MapCheck",
    "MethodRow",
    "Panel",
    "Rate",
    "Report",
    "Spread",
    "Strip",
    "summary_table",
    "write_report",
]
