from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from despur.explain.curves import area_under, blurred, deletion_curve, insertion_curve, pixel_ranks
from despur.explain.maps import upsample_maps


class ColourScore:
    """Of [pictures, 3, rows, columns]: the share of pixels that are red; deleting red pixels lowers it."""

    def __init__(self) -> None:
        self.pictures = 0

    def __call__(self, pictures: Tensor) -> Tensor:
        self.pictures += len(pictures)
        return (pictures[:, 0] > 0.5).float().mean((-2, -1))


def curve_by_loop(first: Tensor, last: Tensor, saliency: Tensor, steps: int) -> list[float]:
    """One image: pixels turn one by one, the most salient first, and the score is taken every 1/steps."""
    picture = first.clone()
    rows, columns = picture.shape[-2:]
    places = sorted(range(rows * columns), key=lambda p: (-float(saliency[p // columns, p % columns]), p))
    scores, turned = [], 0
    for step in range(steps + 1):
        while turned < round(step * rows * columns / steps):
            row, column = divmod(places[turned], columns)
            picture[:, row, column] = last[:, row, column]
            turned += 1
        scores.append(float((picture[0] > 0.5).float().mean()))
    return scores


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 5), st.booleans())
def test_curves_equal_a_loop_that_turns_pixel_after_pixel(seed: int, steps: int, flat: bool):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(2, 3, 6, 5, generator=generator)
    maps = torch.full((2, 3, 3), 0.5) if flat else torch.rand(2, 3, 3, generator=generator)
    large = upsample_maps(maps, (6, 5))
    score = ColourScore()
    deleted = deletion_curve(score, pixels, maps, steps=steps)
    inserted = insertion_curve(score, pixels, maps, steps=steps)
    assert score.pictures == 2 * 2 * (steps + 1)
    for image in range(2):
        zero, blur = torch.zeros(3, 6, 5), blurred(pixels)[image]
        assert deleted[image].tolist() == pytest.approx(curve_by_loop(pixels[image], zero, large[image], steps))
        assert inserted[image].tolist() == pytest.approx(curve_by_loop(blur, pixels[image], large[image], steps))


def test_a_map_that_shows_what_counts_falls_faster_than_its_opposite():
    pixels = torch.zeros(1, 3, 8, 8)
    pixels[:, 0, :4, :4] = 1.0
    maps = torch.zeros(1, 2, 2)
    maps[:, 0, 0] = 1.0
    right = deletion_curve(ColourScore(), pixels, maps)
    wrong = deletion_curve(ColourScore(), pixels, 1 - maps)
    assert area_under(right).item() < area_under(wrong).item()
    assert right[0, 0] == wrong[0, 0] == pytest.approx(0.25)
    assert right[0, -1] == wrong[0, -1] == 0


def test_equal_pixels_are_ranked_in_reading_order():
    assert pixel_ranks(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])).tolist() == [[[2, 0], [1, 3]]]


def test_the_area_under_a_straight_line_is_a_half():
    assert area_under(torch.linspace(0, 1, 11)).item() == pytest.approx(0.5)
