from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from despur.metrics import adjusted_iou, soft_iou

values = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1, width=32))


@st.composite
def maps_and_masks(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """[2 runs, images, classes, height, width] in [0, 1] and [images, height, width] of bools; some all zero or one."""
    images, classes = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))

    def grid(of: st.SearchStrategy[float], count: int) -> list[float]:
        uniform = st.sampled_from([0.0, 1.0]).map(lambda value: [value] * (height * width))
        one = st.one_of(uniform, st.lists(of, min_size=height * width, max_size=height * width))
        return [value for _ in range(count) for value in draw(one)]

    maps = torch.tensor(grid(values, 2 * images * classes)).reshape(2, images, classes, height, width)
    masks = torch.tensor(grid(st.sampled_from([0.0, 1.0]), images)).reshape(images, height, width) > 0.5
    return maps, masks


def iou_by_loop(saliency: Tensor, mask: Tensor) -> float:
    """Eq. 8, pixel by pixel."""
    pairs = list(zip(saliency.flatten().tolist(), mask.flatten().tolist(), strict=True))
    union = sum(max(m, float(b)) for m, b in pairs)
    return sum(min(m, float(b)) for m, b in pairs) / union if union else 0.0


def aiou_by_loop(ious: list[float], label: int) -> float:
    """Eq. 9."""
    rival = max([iou for other, iou in enumerate(ious) if other != label], default=0.0)
    return ious[label] / (ious[label] + rival) if ious[label] + rival else 0.0


@settings(max_examples=80, deadline=None)
@given(maps_and_masks(), st.data())
def test_iou_and_aiou_equal_a_loop_from_the_equations(pair: tuple[Tensor, Tensor], data: st.DataObject):
    maps, masks = pair
    runs, images, classes = maps.shape[:3]
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=images, max_size=images))
    ious = soft_iou(maps, masks)
    adjusted = adjusted_iou(ious, torch.tensor(labels))
    assert ious.shape == (runs, images, classes)
    assert adjusted.shape == (runs, images)
    for run in range(runs):
        for image in range(images):
            expected = [iou_by_loop(maps[run, image, label], masks[image]) for label in range(classes)]
            assert ious[run, image].tolist() == pytest.approx(expected, abs=1e-6)
            assert adjusted[run, image].item() == pytest.approx(
                aiou_by_loop(ious[run, image].tolist(), labels[image]), abs=1e-6
            )


def test_a_map_equal_to_the_mask_has_iou_one_and_its_complement_zero():
    mask = torch.tensor([[[True, False], [False, True]]])
    maps = torch.stack([mask.float(), 1 - mask.float()], dim=1)
    assert soft_iou(maps, mask).tolist() == [[1.0, 0.0]]


def test_a_map_of_all_ones_has_the_masks_share_of_the_picture():
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, :2, :2] = True
    assert soft_iou(torch.ones(1, 1, 4, 4), mask).item() == pytest.approx(4 / 16)


def test_an_empty_map_on_an_empty_mask_is_zero_not_nan():
    empty = torch.zeros(1, 2, 3, 3)
    ious = soft_iou(empty, torch.zeros(1, 3, 3, dtype=torch.bool))
    assert ious.tolist() == [[0.0, 0.0]]
    assert adjusted_iou(ious, torch.tensor([1])).tolist() == [0.0]


def test_with_one_class_only_any_overlap_counts_in_full():
    assert adjusted_iou(torch.tensor([[0.2], [0.0]]), torch.tensor([0, 0])).tolist() == [1.0, 0.0]


def test_equal_ious_of_two_classes_give_a_half():
    assert adjusted_iou(torch.tensor([[0.3, 0.3]]), torch.tensor([1])).tolist() == [0.5]


def test_only_the_strongest_other_class_counts():
    assert adjusted_iou(torch.tensor([[0.1, 0.6, 0.2]]), torch.tensor([2])).item() == pytest.approx(0.25)
