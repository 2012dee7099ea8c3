"""What the small OWL-ViT is to say at each place of its grid, from what every pixel of a scene shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

# The part of a thing's box that a window must show for its place and size to be asked for.
_WHOLE_ENOUGH = 0.7


@dataclass(frozen=True)
class Targets:
    """What a batch of windows shows; a window is a square of the grid's places.

    Attributes:
        places: which places of the grid the window holds, row by row.
        positive: places at which a thing is to be named.
        ignored: places at which saying it or not costs nothing, for the window cuts the thing off.
        boxes: (x0, y0, x1, y1) of each thing as parts of the whole scene's side; 0 where it is not seen.
    """

    places: Int[Tensor, "images places"]
    positive: Bool[Tensor, "images places names"]
    ignored: Bool[Tensor, "images places names"]
    boxes: Float[Tensor, "images names 4"]


def thing_boxes(
    owners: UInt8[Tensor, "images side side"], values: Sequence[int]
) -> tuple[Float[Tensor, "images names 4"], Bool[Tensor, "images names"]]:
    """Tight boxes (x0, y0, x1, y1; pixels, x1 and y1 exclusive) of what can be seen, and what can be seen at all.

    Args:
        values: what a pixel of each thing holds.
    """
    side = owners.shape[-1]
    boxes: list[Tensor] = []
    for value in values:
        mask = owners == value
        ends: list[Tensor] = []
        for line in (mask.any(1), mask.any(2)):
            hit = line.to(torch.uint8)
            ends += [hit.argmax(-1), side - hit.flip(-1).argmax(-1)]
        x0, x1, y0, y1 = ends
        boxes.append(torch.stack([x0, y0, x1, y1], dim=-1) * mask.flatten(1).any(1, keepdim=True))
    stacked = torch.stack(boxes, dim=1).float()
    return stacked, stacked[..., 2] > 0


def draw_windows(
    boxes: Float[Tensor, "images names 4"],
    seen: Bool[Tensor, "images names"],
    grid: int,
    window: int,
    patch: int,
    generator: torch.Generator,
) -> Int[Tensor, "images 2"]:
    """Column and row of the first place of a window for each scene: one of its things, drawn evenly, lies in it.

    Args:
        grid, window: places to a side, of the whole scene and of the window.
        patch: pixels to a place's side.
    """
    chances = seen.float() + (~seen.any(1, keepdim=True)).float()
    chosen = torch.multinomial(chances, 1, generator=generator).squeeze(1)
    box = boxes[torch.arange(len(boxes)), chosen]
    near, far = (box[:, :2] / patch).floor(), (box[:, 2:] / patch).ceil()
    middle = ((near + far - window) / 2.0).round()
    lowest, highest = torch.minimum(far - window, middle), torch.maximum(near, middle)
    drawn = lowest + torch.rand(len(boxes), 2, generator=generator) * (highest - lowest)
    return drawn.round().long().clamp(0, grid - window)


def make_targets(
    boxes: Float[Tensor, "images names 4"],
    seen: Bool[Tensor, "images names"],
    corners: Int[Tensor, "images 2"],
    *,
    grid: int,
    window: int,
    patch: int,
    reach: float,
) -> Targets:
    """Targets of windows.

    Args:
        boxes, seen: as :func:`thing_boxes` gives them.
        corners: as :func:`draw_windows` gives them.
        reach: a thing is named at the place under its box's centre and at those whose own centres lie in the middle
            part of the box, of this share of its width and height; with 0, at the one place only.
    """
    steps = torch.arange(window)
    columns, rows = corners[:, :1] + steps, corners[:, 1:] + steps
    places = (rows[:, :, None] * grid + columns[:, None, :]).flatten(1)
    cell = torch.stack([places % grid, places // grid], dim=-1).unsqueeze(2)
    centre = ((boxes[..., :2] + boxes[..., 2:]) / 2.0).unsqueeze(1)
    size = (boxes[..., 2:] - boxes[..., :2]).unsqueeze(1)
    middle = (cell + 0.5) * patch
    under = ((centre / patch).floor() == cell).all(-1)
    near = ((middle - centre).abs() <= size * reach / 2.0).all(-1)

    start, end = corners.unsqueeze(1) * patch, (corners + window).unsqueeze(1) * patch
    inside = (torch.minimum(boxes[..., 2:], end) - torch.maximum(boxes[..., :2], start)).clamp(min=0.0).prod(-1)
    whole = (inside >= _WHOLE_ENOUGH * size.squeeze(1).prod(-1)) & seen
    touched = ((middle - centre).abs() <= (size + patch) / 2.0).all(-1)
    return Targets(
        places,
        (under | near) & whole.unsqueeze(1),
        touched & (seen & ~whole).unsqueeze(1),
        boxes / (grid * patch),
    )
