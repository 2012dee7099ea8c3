from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from despur.backbones.geometry import Framing
from despur.detect.schema import SCHEMA
from despur.explain.places import box_masks, boxes_seen, object_as_seen, places_as_seen


def test_a_marked_pixel_of_the_photograph_is_where_its_mask_is():
    photograph = Image.new("RGB", (40, 20))
    photograph.paste((255, 255, 255), (24, 8, 28, 12))
    mask = np.zeros((20, 40), dtype=bool)
    mask[8:12, 24:28] = True
    framing = Framing(20, 20)
    seen = np.asarray(framing.image(photograph))[:, :, 0] > 128
    assert seen.sum() == 16
    assert (seen == framing.mask(mask)).all()


def test_a_box_and_a_mask_are_cropped_as_the_photograph_is():
    framing = Framing(10, 10)
    mask = np.zeros((10, 30), dtype=bool)
    mask[2:5, 11:14] = True
    by_mask = object_as_seen((30, 10), framing, mask=mask)
    by_box = object_as_seen((30, 10), framing, box=[11, 2, 14, 5])
    expected = np.zeros((10, 10), dtype=bool)
    expected[2:5, 1:4] = True
    assert (by_mask == expected).all()
    assert (by_box == expected).all()


def test_a_box_outside_the_crop_is_empty():
    assert not object_as_seen((30, 10), Framing(10, 10), box=[0, 0, 5, 10]).any()


def test_a_mask_of_another_size_than_the_photograph_is_stretched_over_it():
    small = np.zeros((5, 5), dtype=bool)
    small[:, 2] = True
    seen = object_as_seen((30, 10), Framing(10, 10), mask=small)
    assert seen[:, 2:8].all()
    assert seen.sum() == 60


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


def test_a_box_covers_the_pixels_whose_centre_lies_inside():
    masks = box_masks(torch.tensor([[1.0, 0.0, 3.0, 2.0], [0.6, 0.0, 1.4, 2.0], [2.0, 1.0, 2.0, 1.0]]), (2, 4))
    assert masks[0].int().tolist() == [[0, 1, 1, 0], [0, 1, 1, 0]]
    assert not masks[1].any(), "0.6 to 1.4 holds the centre of no column"
    assert not masks[2].any(), "a box without area is empty"
