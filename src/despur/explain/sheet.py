"""A sheet of pictures in rows and columns with words under them, as PNG and as SVG from one layout."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

__all__ = ["Cell", "Row", "Sheet", "to_png", "to_svg"]

SIDE, GAP, MARGIN = 192, 12, 20
"""Pixels: of a picture, between pictures, around the sheet."""

TITLE, WORDS, LINE = 20, 13, 18
"""Pixels: letters of the title and of all other words, and from one line of those to the next."""

LETTER = 0.52
"""Mean width of a letter over its size, in the fonts that are used."""

INK, GREY, WRONG = "#1a1a1a", "#595959", "#b3261e"


@dataclass(frozen=True)
class Cell:
    """One picture.

    Attributes:
        image: scaled so that its longer side fits; small ones are enlarged pixel by pixel.
        lines: what stands under it.
        wrong: the first of those lines tells of a mistake.
    """

    image: Image.Image
    lines: tuple[str, ...] = ()
    wrong: bool = False


@dataclass(frozen=True)
class Row:
    """Pictures beside each other, with a line above them."""

    heading: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Sheet:
    """What is drawn.

    Attributes:
        columns: headings; empty where the cells' own lines say it all.
        caption: a paragraph under the pictures: what they show and how they were chosen.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    caption: str


@dataclass(frozen=True)
class _Words:
    x: float
    y: float
    text: str
    size: int = WORDS
    colour: str = INK
    bold: bool = False


@dataclass(frozen=True)
class _Picture:
    x: int
    y: int
    image: Image.Image


def to_png(sheet: Sheet, *, scale: int = 2) -> Image.Image:
    """The sheet as pixels, ``scale`` of them to a unit of the layout."""
    width, height, items = _layout(sheet)
    drawn = Image.new("RGB", (width * scale, height * scale), "white")
    pen = ImageDraw.Draw(drawn)
    for item in items:
        if isinstance(item, _Picture):
            large = _fitted(item.image, SIDE * scale)
            drawn.paste(large, (item.x * scale, item.y * scale))
        else:
            font = ImageFont.load_default(item.size * scale)
            stroke = scale / 3 if item.bold else 0
            place = (item.x * scale, item.y * scale)
            pen.text(place, item.text, item.colour, font, anchor="ls", stroke_width=stroke, stroke_fill=item.colour)
    return drawn


def to_svg(sheet: Sheet) -> str:
    """The sheet as one SVG file: words as words, pictures inside it as PNG."""
    width, height, items = _layout(sheet)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="Helvetica, Arial, sans-serif">',
        f"<title>{_plain(sheet.title)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for item in items:
        if isinstance(item, _Picture):
            across, down = _size(item.image, SIDE)
            parts.append(
                f'<image x="{item.x}" y="{item.y}" width="{across}" height="{down}" '
                f'style="image-rendering:{_rendering(item.image)}" href="{_data_uri(item.image)}"/>'
            )
        else:
            weight = ' font-weight="bold"' if item.bold else ""
            parts.append(
                f'<text x="{item.x:g}" y="{item.y:g}" font-size="{item.size}" fill="{item.colour}"{weight}>'
                f"{_plain(item.text)}</text>"
            )
    return "\n".join([*parts, "</svg>\n"])


def _layout(sheet: Sheet) -> tuple[int, int, list[_Words | _Picture]]:
    """Width and height of the sheet, and everything on it."""
    columns = max([len(sheet.columns), *(len(row.cells) for row in sheet.rows)])
    width = 2 * MARGIN + columns * (SIDE + GAP) - GAP
    items: list[_Words | _Picture] = []
    y = MARGIN
    for line in _wrapped(sheet.title, width - 2 * MARGIN, TITLE):
        y += TITLE + 6
        items.append(_Words(MARGIN, y - 6, line, size=TITLE, bold=True))
    headings = [_wrapped(heading, SIDE) for heading in sheet.columns]
    for column, lines in enumerate(headings):
        items += [_Words(_left(column), y + LINE * (i + 1), line, bold=True) for i, line in enumerate(lines)]
    y += LINE * max([0, *map(len, headings)])
    for row in sheet.rows:
        y = _add_row(items, row, y + GAP, width)
    y += GAP
    for line in _wrapped(sheet.caption, width - 2 * MARGIN):
        y += LINE
        items.append(_Words(MARGIN, y, line, colour=GREY))
    return width, y + MARGIN, items


def _add_row(items: list[_Words | _Picture], row: Row, y: int, width: int) -> int:
    """Put a row on the sheet from ``y`` down; returns where it ends."""
    for line in _wrapped(row.heading, width - 2 * MARGIN):
        y += LINE
        items.append(_Words(MARGIN, y, line, colour=GREY))
    y += LINE // 3
    tallest = max(_size(cell.image, SIDE)[1] for cell in row.cells)
    most = 0
    for column, cell in enumerate(row.cells):
        items.append(_Picture(_left(column), y, cell.image))
        lines = [(part, cell.wrong and i == 0) for i, line in enumerate(cell.lines) for part in _wrapped(line, SIDE)]
        most = max(most, len(lines))
        items += [
            _Words(_left(column), y + tallest + LINE * (i + 1), line, colour=WRONG if wrong else INK)
            for i, (line, wrong) in enumerate(lines)
        ]
    return y + tallest + LINE * most


def _left(column: int) -> int:
    return MARGIN + column * (SIDE + GAP)


def _wrapped(text: str, width: int, size: int = WORDS) -> list[str]:
    return textwrap.wrap(text, max(8, int(width / (LETTER * size))))


def _size(image: Image.Image, side: int) -> tuple[int, int]:
    """(width, height) with the longer side brought to ``side``."""
    factor = side / max(image.size)
    return max(1, round(image.width * factor)), max(1, round(image.height * factor))


def _is_small(image: Image.Image) -> bool:
    return max(image.size) < SIDE


def _fitted(image: Image.Image, side: int) -> Image.Image:
    method = Image.Resampling.NEAREST if _is_small(image) else Image.Resampling.LANCZOS
    return image.convert("RGB").resize(_size(image, side), method)


def _rendering(image: Image.Image) -> str:
    return "pixelated" if _is_small(image) else "auto"


def _data_uri(image: Image.Image) -> str:
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _plain(text: str) -> str:
    """Text for XML, which knows no control characters."""
    return escape("".join(letter for letter in text if letter.isprintable()))
