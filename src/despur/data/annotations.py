"""Boxes in Pascal VOC's XML files, as ImageNet's are."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from despur.data.examples import Box
from despur.errors import DataError

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_annotation(file: Path) -> list[tuple[str, Box]]:
    """Every object of an annotation: its name, and its box in pixels.

    Raises:
        DataError: the file is not such an annotation.
    """
    try:
        root = ElementTree.parse(file).getroot()
        return [(item.findtext("name", "").strip(), _box(item)) for item in root.iter("object")]
    except (OSError, ElementTree.ParseError, TypeError, ValueError) as error:
        raise DataError(
            f"it does not read as a Pascal VOC annotation ({error})", where=file, now="unpack it again or delete it"
        ) from error


def _box(item: ElementTree.Element) -> Box:
    x0, y0, x1, y1 = (float(item.findtext(f"bndbox/{corner}", "")) for corner in CORNERS)
    return x0, y0, x1, y1


def largest_box(objects: list[tuple[str, Box]], name: str) -> Box | None:
    """The largest box of the objects of that name; of all of them where none has it; None where none has an area.

    One box is kept an image. A box around several objects would hold what lies between them, which may be just the
    shortcut that is looked for; the largest alone never does.
    """
    boxes = [box for called, box in objects if called == name] or [box for _, box in objects]
    largest = max(boxes, key=_area, default=None)
    return largest if largest is not None and _area(largest) > 0 else None


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)
