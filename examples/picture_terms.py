"""Draws what each term of the loss does, by doing it: points on a circle, pushed by one term alone.

    python examples/picture_terms.py docs/images/terms

Images and prompts are two numbers each, so that embeddings of unit length lie on a circle. They start as a model that
leans on a shortcut holds them: sorted by what they stand on, and only then by what they are. Then one term, and nothing
else, is followed downhill.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, radians, sin
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from despur.mitigate import losses

INVERSE_TEMPERATURE = torch.tensor(4.0)
STEPS, RATE = 400, 0.1
RADIUS, WIDTH, HEIGHT, MIDDLE = 88, 520, 250, 120
COLOURS = ("#c8641e", "#2f6fb0")

GROUP_CENTRES = (150.0, 40.0, 210.0, -40.0)
"""Where each group's points start, in degrees: on land to the left, on water to the right, whatever the bird."""
GROUP_SIZES = (4, 2, 2, 4)
TEMPLATES = 3


@dataclass(frozen=True)
class Points:
    """What is on the circle: unit vectors [points, 2], what each shows, and whether it is a prompt."""

    at: Tensor
    classes: list[int]
    attributes: list[int | None]
    prompts: list[bool]


def spread(centres: list[float], step: float = 11.0) -> list[float]:
    """Angles around each centre, one for every time that it is named."""
    seen: dict[float, int] = {}
    angles: list[float] = []
    for centre in centres:
        seen[centre] = seen.get(centre, 0) + 1
        angles.append(centre + step * (seen[centre] - (centres.count(centre) + 1) / 2))
    return angles


def on_circle(angles: list[float]) -> Tensor:
    return torch.tensor([[cos(radians(angle)), sin(radians(angle))] for angle in angles], dtype=torch.float64)


def images() -> Points:
    groups = [group for group, size in enumerate(GROUP_SIZES) for _ in range(size)]
    at = on_circle(spread([GROUP_CENTRES[group] for group in groups]))
    return Points(at, [group // 2 for group in groups], [group % 2 for group in groups], [False] * len(groups))


def class_prompts() -> Points:
    at = on_circle(spread([100.0, 60.0] * TEMPLATES))
    return Points(at, [0, 1] * TEMPLATES, [None] * 2 * TEMPLATES, [True] * 2 * TEMPLATES)


def group_prompts() -> Points:
    at = on_circle(spread([*GROUP_CENTRES] * TEMPLATES))
    return Points(at, [0, 0, 1, 1] * TEMPLATES, [0, 1, 0, 1] * TEMPLATES, [True] * 4 * TEMPLATES)


def images_and_texts() -> Points:
    own, texts = images(), on_circle([175.0, 5.0])
    return Points(
        torch.cat([own.at, texts]), [*own.classes, 0, 1], [*own.attributes, None, None], [*own.prompts, True, True]
    )


def clip(points: Points, at: Tensor) -> Tensor:
    labels = torch.tensor(points.classes[:-2])
    return losses.clip_loss_of_class_texts(losses.similarities(at[:-2], at[-2:], INVERSE_TEMPERATURE), labels)


def vc(points: Points, at: Tensor) -> Tensor:
    return losses.contrastive_image_loss(at, torch.tensor(points.classes), INVERSE_TEMPERATURE)


def lc(points: Points, at: Tensor) -> Tensor:
    return losses.contrastive_language_loss(at.unflatten(0, (TEMPLATES, 2)), INVERSE_TEMPERATURE)


def vs(points: Points, at: Tensor) -> Tensor:
    groups = [2 * label + int(value or 0) for label, value in zip(points.classes, points.attributes, strict=True)]
    return losses.spurious_image_loss(at, torch.tensor(groups), INVERSE_TEMPERATURE)


def ls(points: Points, at: Tensor) -> Tensor:
    return losses.spurious_language_loss(at.unflatten(0, (TEMPLATES, 4)), INVERSE_TEMPERATURE)


TERMS: Mapping[str, tuple[Callable[[], Points], Callable[[Points, Tensor], Tensor]]] = {
    "clip": (images_and_texts, clip),
    "vc": (images, vc),
    "lc": (class_prompts, lc),
    "vs": (images, vs),
    "ls": (group_prompts, ls),
}


def follow(points: Points, term: Callable[[Points, Tensor], Tensor]) -> list[tuple[Tensor, float]]:
    """Where the points are, and what the term is, before the first step and after the last."""
    free = points.at.clone().requires_grad_()
    ends: list[tuple[Tensor, float]] = []
    for step in range(STEPS + 1):
        at = F.normalize(free, dim=-1)
        loss = term(points, at)
        if step in (0, STEPS):
            ends.append((at.detach(), loss.item()))
        (gradient,) = torch.autograd.grad(loss, free)
        with torch.no_grad():
            free -= RATE * gradient
    return ends


def mark(x: float, y: float, label: int, attribute: int | None, prompt: bool) -> str:
    """A circle for an image, a square for a prompt; filled on water, hollow on land, crossed where neither is said."""
    colour = COLOURS[label]
    fill = colour if attribute else "none" if attribute == 0 else f"{colour}55"
    style = f'fill="{fill}" stroke="{colour}" stroke-width="2"'
    if prompt:
        return f'<rect x="{x - 5:.0f}" y="{y - 5:.0f}" width="10" height="10" {style}/>'
    return f'<circle cx="{x:.0f}" cy="{y:.0f}" r="5.5" {style}/>'


def panel(points: Points, at: Tensor, loss: float, centre: int, title: str) -> str:
    parts = [
        f'<circle cx="{centre}" cy="{MIDDLE}" r="{RADIUS}" class="ring"/>',
        f'<text x="{centre}" y="{HEIGHT - 12}" class="says">{title}: {loss:.2f}</text>',
    ]
    for (x, y), label, attribute, prompt in zip(
        at.tolist(), points.classes, points.attributes, points.prompts, strict=True
    ):
        parts.append(mark(centre + RADIUS * x, MIDDLE - RADIUS * y, label, attribute, prompt))
    return "\n".join(parts)


def picture(name: str) -> str:
    """The term's picture as SVG, which follows the reader's light or dark."""
    make, term = TERMS[name]
    points = make()
    before, after = follow(points, term)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">
<title>{name}: points on a circle before and after {STEPS} steps</title>
<style>
.ring {{ fill: none; stroke: #8888; }}
text {{ font: 15px system-ui, sans-serif; text-anchor: middle; fill: #333; }}
@media (prefers-color-scheme: dark) {{ text {{ fill: #ddd; }} }}
</style>
{panel(points, *before, WIDTH // 4, "before")}
<text x="{WIDTH // 2}" y="{MIDDLE + 5}">→</text>
{panel(points, *after, 3 * WIDTH // 4, f"after {STEPS} steps")}
</svg>
"""


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in TERMS:
        (folder / f"{name}.svg").write_text(picture(name), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
