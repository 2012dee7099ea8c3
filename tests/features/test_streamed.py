"""Rows of a store of which only some blocks are in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from despur.features.streamed import BLOCK, StreamedFeatures

COUNT = 3 * BLOCK + 10
WIDTH = 4
STORE = torch.arange(2.0 * COUNT * WIDTH, dtype=torch.float16).view(2 * COUNT, WIDTH)
ROWS = np.arange(0, 2 * COUNT, 2)
"""Every other row of the store, as a split is that alternates with another."""


class Reader:
    """The store, counting what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, rows: np.ndarray) -> Tensor:
        self.asked.append(len(rows))
        return STORE[torch.from_numpy(rows)]


def streamed(blocks: int = 2, reader: Reader | None = None) -> StreamedFeatures:
    return StreamedFeatures(reader or Reader(), ROWS, memory=blocks * BLOCK * WIDTH * 2)


@given(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=40), st.integers(1, 5))
def test_chosen_rows_are_those_of_the_whole_tensor(chosen: list[int], blocks: int) -> None:
    whole = STORE[torch.from_numpy(ROWS)].float()
    indices = torch.tensor(chosen).unsqueeze(0)
    assert torch.equal(streamed(blocks).take(indices), whole[indices])


def test_parts_are_all_rows_in_order() -> None:
    features = streamed()
    assert torch.equal(torch.cat(list(features.parts())), STORE[torch.from_numpy(ROWS)].float())
    assert features.shape == (COUNT, WIDTH)
    assert len(features) == COUNT


def test_a_block_is_read_once_while_it_is_held() -> None:
    reader = Reader()
    features = streamed(2, reader)
    reader.asked.clear()
    for row in (0, 1, BLOCK, BLOCK + 1, 0):
        features.take(torch.tensor([row]))
    assert reader.asked == [BLOCK, BLOCK]


def test_no_more_blocks_are_held_than_memory_is_given_for() -> None:
    reader = Reader()
    features = streamed(2, reader)
    reader.asked.clear()
    for row in (0, BLOCK, 2 * BLOCK, 0):  # the third pushes the first out
        features.take(torch.tensor([row]))
    assert reader.asked == [BLOCK] * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_handed_out_in_the_precision_asked_for(dtype: torch.dtype) -> None:
    assert streamed().to("cpu", dtype).take(torch.tensor([3])).dtype == dtype
