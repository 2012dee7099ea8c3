"""The short cut to IoU against maps that are made at the masks' size first."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from despur.explain.aiou import soft_iou_upsampled
from despur.explain.maps import upsample_maps
from despur.metrics import soft_iou

from .drawn_maps import maps_of_classes


@settings(max_examples=60, deadline=None)
@given(maps_of_classes(), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**16))
def test_the_short_cut_equals_upsampling_first(maps: Tensor, height: int, width: int, seed: int):
    masks = torch.rand(maps.shape[1], height, width, generator=torch.Generator().manual_seed(seed)) < 0.4
    expected = soft_iou(upsample_maps(maps, (height, width)), masks)
    torch.testing.assert_close(soft_iou_upsampled(maps, masks), expected, atol=1e-5, rtol=0)


def test_the_short_cut_holds_at_a_models_size():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 2, 2, 7, 7, generator=generator)
    masks = torch.rand(2, 224, 224, generator=generator) < 0.2
    expected = soft_iou(upsample_maps(maps, (224, 224)), masks)
    torch.testing.assert_close(soft_iou_upsampled(maps, masks), expected, atol=1e-5, rtol=0)


def test_an_empty_map_on_an_empty_mask_is_zero_not_nan():
    empty = torch.zeros(1, 2, 3, 3)
    assert soft_iou_upsampled(empty, torch.zeros(1, 9, 9, dtype=torch.bool)).tolist() == [[0.0, 0.0]]
