"""The summary table for a terminal of 80 columns."""

from __future__ import annotations

from textwrap import fill

from rich import box
from rich.table import Table
from rich.text import Text

from despur.report import summary
from despur.report.content import BackboneSection
from despur.report.words import encodable


def summary_table(section: BackboneSection) -> Table:
    """The same rows as on the page. Names are printed as they are: no markup is read from them.

    Returns:
        a table that fits into 80 columns; long titles fold.
    """
    table = Table(
        title=Text(encodable(section.spec), style="bold"),
        caption=Text(encodable(summary.caption(section.rows, section.split)), style="dim"),
        caption_justify="left",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0),
        show_edge=False,
    )
    shown = summary.columns(section.rows)
    table.add_column("method", overflow="fold", min_width=13)
    for column in shown:
        table.add_column(heading(column), justify="right", no_wrap=True)
    columns = [summary.cells(section.rows, column) for column in shown]
    for index, row in enumerate(section.rows):
        title = Text(encodable(row.title))
        for remark in summary.remarks(row, section.rows):
            title.append(f"\n{encodable(remark)}", style="dim")
        table.add_row(title, *(cell_text(cells[index]) for cells in columns))
    return table


def heading(column: summary.Column) -> str:
    """A column's title, broken into lines."""
    return fill(f"{column.title} %" if column.in_percent else column.title, 11)


def cell_text(cell: summary.Cell) -> Text:
    """A cell as the terminal shows it; the best is bold."""
    text = Text(cell.mean, style="bold" if cell.best else "", no_wrap=True)
    return text.append(f" ± {cell.deviation}", style="not bold dim") if cell.deviation else text
