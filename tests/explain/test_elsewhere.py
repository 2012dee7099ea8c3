from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from despur.explain.elsewhere import map_shares

from .drawn_maps import each, energy_by_loop, maps_and_masks


@settings(max_examples=60, deadline=None)
@given(maps_and_masks())
def test_shares_equal_loops_and_what_both_cover_is_the_objects(drawn: tuple[Tensor, Tensor, Tensor]):
    maps, objects, attributes = drawn
    shares = map_shares(maps, objects, attributes)
    beside = attributes & ~objects
    for place in each(maps):
        image = place[1]
        assert float(shares.on_object[place]) == pytest.approx(energy_by_loop(maps[place], objects[image]), abs=1e-4)
        assert float(shares.on_attribute[place]) == pytest.approx(energy_by_loop(maps[place], beside[image]), abs=1e-4)
    assert (shares.on_object + shares.on_attribute <= 1 + 1e-4).all()
    flat = map_shares(torch.ones_like(maps), objects, attributes)
    torch.testing.assert_close(flat.on_attribute[0, :, 0], shares.attribute_area, atol=1e-4, rtol=0)
    torch.testing.assert_close(flat.on_object[0, :, 0], shares.object_area, atol=1e-4, rtol=0)
