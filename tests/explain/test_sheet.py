from __future__ import annotations

import base64
from io import BytesIO
from xml.etree import ElementTree

from PIL import Image

from despur.explain.sheet import GAP, MARGIN, SIDE, Cell, Row, Sheet, to_png, to_svg

SVG = "{http://www.w3.org/2000/svg}"
RED, BLUE = Image.new("RGB", (10, 10), "red"), Image.new("RGB", (20, 10), "blue")
SHEET = Sheet(
    title="Two <pictures> & more",
    columns=("photograph", "zero-shot"),
    rows=[Row("waterbird on land", [Cell(RED), Cell(BLUE, ("says landbird", "AIoU 0.21"), wrong=True)])],
    caption="Drawn at random (seed 0). " * 12,
)


def test_the_svg_is_well_formed_and_holds_every_word_and_picture():
    tree = ElementTree.fromstring(to_svg(SHEET))
    words = [element.text for element in tree.iter(f"{SVG}text")]
    for line in ("Two <pictures> & more", "photograph", "zero-shot", "waterbird on land", "says landbird", "AIoU 0.21"):
        assert line in words
    pictures = [element.get("href", "") for element in tree.iter(f"{SVG}image")]
    first = Image.open(BytesIO(base64.b64decode(pictures[0].removeprefix("data:image/png;base64,"))))
    assert first.size == (10, 10)
    assert first.convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    assert len(pictures) == 2


def test_png_and_svg_have_one_layout():
    tree = ElementTree.fromstring(to_svg(SHEET))
    drawn = to_png(SHEET, scale=1)
    assert drawn.size == (int(tree.get("width", "0")), int(tree.get("height", "0")))
    assert drawn.width == 2 * MARGIN + 2 * SIDE + GAP
    for element, colour in zip(tree.iter(f"{SVG}image"), ((255, 0, 0), (0, 0, 255)), strict=True):
        x, y = int(element.get("x", "0")), int(element.get("y", "0"))
        width, height = int(element.get("width", "0")), int(element.get("height", "0"))
        assert drawn.getpixel((x, y)) == drawn.getpixel((x + width - 1, y + height - 1)) == colour
        assert drawn.getpixel((x + width, y)) == (255, 255, 255)


def test_a_long_caption_is_wrapped_inside_the_sheet():
    tree = ElementTree.fromstring(to_svg(SHEET))
    lines = [element.text for element in tree.iter(f"{SVG}text") if "Drawn" in (element.text or "")]
    assert len(lines) > 3
    drawn = to_png(SHEET, scale=1)
    right = drawn.crop((drawn.width - MARGIN, 0, drawn.width, drawn.height))
    assert right.getcolors() == [(MARGIN * drawn.height, (255, 255, 255))]


def test_control_characters_in_a_name_do_not_break_the_file():
    sheet = Sheet("a\x00b\x1b", (), [Row("x", [Cell(RED)])], "")
    assert ElementTree.fromstring(to_svg(sheet)).findtext(f"{SVG}title") == "ab"
