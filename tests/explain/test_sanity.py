"""Measures that say whether to trust a map, each against a loop from its definition."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor

from despur.backbones.geometry import Framing
from despur.detect.schema import SCHEMA
from despur.explain.curves import area_under, blurred, deletion_curve, insertion_curve, pixel_ranks
from despur.explain.elsewhere import boxes_seen, map_shares, places_as_seen
from despur.explain.localisation import energy_inside, pointing_game
from despur.explain.maps import upsample_maps
from despur.explain.randomisation import map_agreement, randomised

values = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1, width=32).filter(lambda v: v == 0 or v > 1e-30))


@st.composite
def maps_and_masks(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """[2 runs, images, classes, height, width], some all zero or all one, and two masks an image of another size."""
    runs, images, classes = 2, draw(st.integers(1, 2)), draw(st.integers(1, 3))
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    cells = height * width
    uniform = st.sampled_from([0.0, 1.0]).map(lambda value: [value] * cells)
    one = st.one_of(uniform, st.lists(values, min_size=cells, max_size=cells))
    maps = torch.tensor([draw(one) for _ in range(runs * images * classes)])
    rows, columns = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    pixels = rows * columns
    mask = st.one_of(
        st.sampled_from([[False] * pixels, [True] * pixels]), st.lists(st.booleans(), min_size=pixels, max_size=pixels)
    )
    masks = torch.tensor([[draw(mask) for _ in range(images)] for _ in range(2)]).reshape(2, images, rows, columns)
    return maps.reshape(runs, images, classes, height, width), masks[0], masks[1]


def each(maps: Tensor):
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


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(values, values), min_size=4, max_size=4))
def test_agreement_is_spearmans_rank_correlation(pairs: list[tuple[float, float]]):
    first, second = (np.array(side, dtype=np.float32) for side in zip(*pairs, strict=True))
    found = map_agreement(torch.tensor(first).reshape(2, 2), torch.tensor(second).reshape(2, 2)).item()
    constant = [len(set(side.tolist())) == 1 for side in (first, second)]
    expected = float(all(constant)) if any(constant) else spearmanr(first, second).statistic
    assert found == pytest.approx(expected, abs=1e-5)


def test_randomised_heads_keep_their_values_and_the_text_side():
    heads = {
        "adapter.in.weight": torch.arange(6.0).reshape(2, 3),
        "image.weight": torch.arange(12.0).reshape(3, 4),
        "text.weight": torch.eye(3),
        "pool.heads": torch.tensor(2),
        "probe.weight": torch.arange(8.0).reshape(2, 4),
    }
    drawn = randomised(heads, torch.Generator().manual_seed(0))
    for name in ("adapter.in.weight", "image.weight", "probe.weight"):
        assert not torch.equal(drawn[name], heads[name])
        assert torch.equal(drawn[name].flatten().sort().values, heads[name].flatten())
    assert torch.equal(drawn["text.weight"], heads["text.weight"])
    assert torch.equal(drawn["pool.heads"], heads["pool.heads"])
    again = randomised(heads, torch.Generator().manual_seed(0))
    assert torch.equal(again["image.weight"], drawn["image.weight"])


def test_boxes_of_the_phrases_are_gathered_by_image_and_what_has_no_place_is_left_out():
    rows = [
        {"id": "a", "phrase": "water", "score": 0.5, "x0": 1, "y0": 2, "x1": 3, "y1": 4},
        {"id": "a", "phrase": "sea", "score": 0.5, "x0": 5, "y0": 6, "x1": 7, "y1": 8},
        {"id": "a", "phrase": "tree", "score": 0.5, "x0": 0, "y0": 0, "x1": 1, "y1": 1},
        {"id": "b", "phrase": "water", "score": 1.0, "x0": None, "y0": None, "x1": None, "y1": None},
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    assert boxes_seen(table, ["water", "sea"]) == {"a": [(1, 2, 3, 4), (5, 6, 7, 8)]}


def test_boxes_cover_their_union_cropped_as_the_photograph_is():
    framing = Framing(10, 10)
    seen = places_as_seen([(0, 0, 12, 5), (11, 4, 14, 10)], (30, 10), framing)
    expected = np.zeros((10, 10), dtype=bool)
    expected[:5, :2] = True
    expected[4:10, 1:4] = True
    assert (seen == expected).all()
    assert not places_as_seen([], (30, 10), framing).any()
