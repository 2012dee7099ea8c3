"""Maps and masks that hypothesis draws: small, some all zero or all one; and a map's energy, by a loop."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from hypothesis import strategies as st
from torch import Tensor

from despur.explain.maps import upsample_maps

values = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1, width=32).filter(lambda v: v == 0 or v > 1e-30))


@st.composite
def maps_of_classes(draw: st.DrawFn) -> Tensor:
    """[2 runs, images, classes, height, width] in [0, 1]."""
    runs, images, classes = 2, draw(st.integers(1, 2)), draw(st.integers(1, 3))
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    cells = height * width
    uniform = st.sampled_from([0.0, 1.0]).map(lambda value: [value] * cells)
    one = st.one_of(uniform, st.lists(values, min_size=cells, max_size=cells))
    maps = torch.tensor([draw(one) for _ in range(runs * images * classes)])
    return maps.reshape(runs, images, classes, height, width)


@st.composite
def maps_and_masks(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Such maps, and two masks an image of another size."""
    maps = draw(maps_of_classes())
    images, rows, columns = maps.shape[1], draw(st.integers(1, 7)), draw(st.integers(1, 7))
    pixels = rows * columns
    mask = st.one_of(
        st.sampled_from([[False] * pixels, [True] * pixels]), st.lists(st.booleans(), min_size=pixels, max_size=pixels)
    )
    masks = torch.tensor([[draw(mask) for _ in range(images)] for _ in range(2)]).reshape(2, images, rows, columns)
    return maps, masks[0], masks[1]


def each(maps: Tensor) -> Iterator[tuple[int, int, int]]:
    """(run, image, class) of every map."""
    return ((r, i, c) for r in range(maps.shape[0]) for i in range(maps.shape[1]) for c in range(maps.shape[2]))


def energy_by_loop(saliency: Tensor, mask: Tensor) -> float:
    large = upsample_maps(saliency[None, None], tuple(mask.shape))[0, 0]
    inside = whole = 0.0
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            whole += float(large[row, column])
            inside += float(large[row, column]) * bool(mask[row, column])
    return inside / whole if whole else 0.0
