from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from despur.explain.localisation import energy_inside, pointing_game

from .drawn_maps import each, energy_by_loop, maps_and_masks


def pointing_by_loop(saliency: Tensor, mask: Tensor) -> float:
    (height, width), (rows, columns) = saliency.shape, mask.shape
    highest = float(saliency.max())
    if highest == 0:
        return 0.0
    hits = []
    for y in range(height):
        for x in range(width):
            if float(saliency[y, x]) == highest:
                at_row, at_column = (
                    math.floor((2 * y + 1) * rows / (2 * height)),
                    math.floor((2 * x + 1) * columns / (2 * width)),
                )
                hits.append(bool(mask[at_row, at_column]))
    return sum(hits) / len(hits)


@settings(max_examples=80, deadline=None)
@given(maps_and_masks())
def test_energy_and_pointing_equal_loops(drawn: tuple[Tensor, Tensor, Tensor]):
    maps, masks, _ = drawn
    energy, pointing = energy_inside(maps, masks), pointing_game(maps, masks)
    assert energy.shape == pointing.shape == maps.shape[:3]
    for place in each(maps):
        assert float(energy[place]) == pytest.approx(energy_by_loop(maps[place], masks[place[1]]), abs=1e-4)
        assert float(pointing[place]) == pytest.approx(pointing_by_loop(maps[place], masks[place[1]]), abs=1e-6)


def test_a_map_on_the_object_has_all_its_energy_and_its_point_there_and_its_opposite_none():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :, :4] = True
    maps = torch.zeros(1, 2, 4, 4)
    maps[0, 0, 1, 0] = 1.0
    maps[0, 1, 1, 3] = 1.0
    assert energy_inside(maps, mask)[0].tolist() == pytest.approx([1.0, 0.0])
    assert pointing_game(maps, mask)[0].tolist() == [1.0, 0.0]


def test_a_map_of_all_ones_points_at_random():
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, :1] = True
    assert pointing_game(torch.ones(1, 1, 4, 4), mask).item() == pytest.approx(0.25)
