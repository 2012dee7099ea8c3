"""A batch size that nobody has to choose: doubled until memory does not suffice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from despur.features.batching import MOST, ON_CPU, _fits, choose_batch_size, largest_batch


@given(room=st.integers(1, 5000), most=st.integers(1, 5000))
def test_the_largest_power_of_two_that_fits_is_found(room: int, most: int) -> None:
    size = largest_batch(lambda size: size <= room, most)
    assert size <= min(room, most) < 2 * size
    assert size & (size - 1) == 0


def test_nothing_larger_is_tried_after_a_batch_that_did_not_fit() -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= 8

    assert largest_batch(fits) == 8
    assert tried == [2, 4, 8, 16]


def test_on_a_cpu_the_encoder_is_not_run_to_find_out(colour: Any) -> None:
    backbone = colour()
    assert choose_batch_size(backbone) == ON_CPU <= MOST
    assert backbone.batches == []


def test_an_encoder_that_runs_out_of_memory_does_not_fit_and_another_error_is_not_swallowed(colour: Any) -> None:
    backbone = colour()
    assert _fits(backbone, 4)

    def no_memory(pixels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    backbone.image_features = no_memory
    assert not _fits(backbone, 4)
    backbone.image_features = None
    with pytest.raises(TypeError):
        _fits(backbone, 4)
