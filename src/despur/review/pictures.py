"""The pictures of a card: thumbnails that are made when first asked for and kept, and the detector's boxes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from PIL import Image

from despur.data.images import read_image
from despur.errors import WorkspaceError
from despur.workspace import write_whole

THUMBNAIL = 320
"""Longer side in pixels."""

ENLARGED = 1600
"""Longer side in pixels of a photograph that fills the page."""

QUALITY = 85
"""Of a JPEG, on Pillow's scale from 0 to 95."""


def jpeg(image: Image.Image, side: int) -> bytes:
    """An RGB picture as JPEG, at most ``side`` pixels on its longer side."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


class Thumbnails:
    """Small pictures in a folder, named by the photograph's path, size and time: a changed one gets a new picture."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, photograph: Path) -> bytes:
        """The JPEG of a photograph.

        Raises:
            UnreadableImage: there is no such photograph, or it cannot be read.
        """
        place = self._place(photograph)
        if place is not None:
            with suppress(OSError):
                return place.read_bytes()
        made = jpeg(read_image(photograph), THUMBNAIL)
        if place is not None:
            # A full or read-only disk costs time at the next look, not the picture.
            with suppress(OSError, WorkspaceError), write_whole(place) as temporary:
                temporary.write_bytes(made)
        return made

    def _place(self, photograph: Path) -> Path | None:
        """Where its thumbnail lies; None: the photograph is not there."""
        try:
            found = photograph.stat()
        except (OSError, ValueError):
            return None
        identity = f"{photograph}\0{found.st_size}\0{found.st_mtime_ns}\0{THUMBNAIL}"
        name = hashlib.blake2b(identity.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        return self.folder / name[:2] / f"{name}.jpg"


def boxes_svg(size: tuple[int, int], boxes: Iterable[Sequence[float]]) -> str:
    """Boxes as a picture of the photograph's own proportions, to be laid over it.

    Args:
        size: width and height of the upright photograph.
        boxes: (x0, y0, x1, y1) in its pixels.
    """
    width, height = size
    line = max(width, height) / 80
    shapes = "".join(
        f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{max(x1 - x0, 0):.1f}" height="{max(y1 - y0, 0):.1f}" fill="none" '
        f'stroke="{colour}" stroke-width="{thickness:.2f}"/>'
        for x0, y0, x1, y1 in boxes
        for colour, thickness in (("#000", 1.8 * line), ("#ffd54a", line))
    )
    about = f'xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f"<svg {about}>{shapes}</svg>"


def upright_size(photograph: Path) -> tuple[int, int]:
    """Width and height of a photograph, turned by its EXIF tag.

    Raises:
        UnreadableImage: there is no such photograph, or it cannot be read.
    """
    return read_image(photograph).size
