"""Pictures for the page: made small, and written into it as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby

from PIL import Image

from despur.report.content import Panel, Strip
from despur.report.words import score_text

SIDE = 224
"""Longer side in pixels that a picture is reduced to; smaller ones stay as they are."""

MOST_STRIPS = 24
"""Strips shown per backbone: with three panels of about 12 kB each, 1.2 MB of page."""

EXACT_BELOW = 129
"""Pictures of a smaller longer side go in as PNG: JPEG's blocks would show once the page enlarges them."""


@dataclass(frozen=True)
class StripGroup:
    """Consecutive strips of one group of images."""

    group: str
    strips: tuple[Strip, ...]


def by_group(strips: Sequence[Strip]) -> list[StripGroup]:
    """The strips to be shown, under the headings they share."""
    shown = strips[:MOST_STRIPS]
    return [StripGroup(group, tuple(members)) for group, members in groupby(shown, key=lambda strip: strip.group)]


def data_uri(image: Image.Image, side: int = SIDE) -> str:
    """A picture as a ``data:`` address: at most ``side`` pixels on its longer side, transparency on white."""
    small = on_white(image)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    if max(small.size) < EXACT_BELOW:
        small.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        small.save(buffer, "JPEG", quality=85, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def on_white(image: Image.Image) -> Image.Image:
    """A copy in RGB."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def alternative(panel: Panel, strip: Strip) -> str:
    """What a picture shows, for whoever cannot see it."""
    if panel.said is None:
        return f"{panel.caption} of {strip.title}, {strip.group}"
    score = "" if panel.aiou is None else f", AIoU {score_text(panel.aiou)}"
    return f"Where {panel.caption} looks in {strip.title}; it says {panel.said}{score}"
