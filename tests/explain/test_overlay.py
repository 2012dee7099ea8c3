from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from despur.explain.overlay import colour_table, contours, overlay

GREY = Image.new("RGB", (8, 6), (100, 100, 100))


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIELAB L*, 0 to 100."""
    linear = colours / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def test_lightness_rises_evenly_with_the_map():
    table = colour_table()
    assert table.shape == (256, 3)
    rise = lightness(table)
    assert (np.diff(rise[::16]) > 0).all()
    straight = np.linspace(rise[0], rise[-1], 256)
    assert np.abs(rise - straight).max() < 6


def test_the_map_at_its_ends_takes_the_ends_of_the_palette():
    table = colour_table()
    assert tuple(table[0]) == (0x44, 0x01, 0x54)
    assert tuple(table[255]) == (0xFD, 0xE7, 0x25)
    pixels = np.asarray(overlay(GREY, torch.tensor([[0.0, 1.0]]), alpha=1.0))
    assert tuple(pixels[0, 0]) == tuple(table[0])
    assert tuple(pixels[0, -1]) == tuple(table[255])


def test_alpha_zero_is_the_photograph_and_alpha_a_half_the_mean():
    saliency = torch.ones(2, 2)
    assert overlay(GREY, saliency, alpha=0.0).tobytes() == GREY.tobytes()
    half = np.asarray(overlay(GREY, saliency, alpha=0.5)).astype(int)
    assert np.abs(half[3, 3] - (100 + colour_table()[255].astype(int)) / 2).max() <= 0.5


def test_the_overlay_has_the_pictures_size_and_leaves_it_as_it_was():
    picture = GREY.copy()
    laid = overlay(picture, torch.rand(3, 3, generator=torch.Generator().manual_seed(0)))
    assert laid.size == (8, 6)
    assert laid.mode == "RGB"
    assert picture.tobytes() == GREY.tobytes()


def test_the_outline_is_white_inside_the_mask_and_black_around_it():
    mask = np.zeros((6, 8), dtype=bool)
    mask[1:5, 2:6] = True
    pixels = np.asarray(overlay(GREY, torch.ones(2, 2), alpha=0.0, outline=mask))[:, :, 0]
    assert pixels.tolist() == [
        [100, 100, 0, 0, 0, 0, 100, 100],
        [100, 0, 255, 255, 255, 255, 0, 100],
        [100, 0, 255, 100, 100, 255, 0, 100],
        [100, 0, 255, 100, 100, 255, 0, 100],
        [100, 0, 255, 255, 255, 255, 0, 100],
        [100, 100, 0, 0, 0, 0, 100, 100],
    ]


def test_an_object_cut_off_by_the_crop_is_closed_along_the_border():
    mask = np.ones((6, 8), dtype=bool)
    pixels = np.asarray(overlay(GREY, torch.ones(2, 2), alpha=0.0, outline=mask))[:, :, 0]
    assert (pixels[0] == 255).all()
    assert (pixels[:, -1] == 255).all()
    assert (pixels[1:-1, 1:-1] == 100).all()


def test_a_contour_lies_where_the_map_crosses_its_level_and_leaves_the_photograph_elsewhere():
    saliency = torch.linspace(0, 1, 8).expand(6, 8)
    pixels = np.asarray(contours(GREY, saliency, levels=(0.5,)))
    colour = tuple(colour_table()[128])
    assert {tuple(pixel) for pixel in pixels[1:-1, 4]} == {colour}, "column 4 is the first above a half"
    assert (pixels[:, 3] == 0).all(), "the rim"
    assert (pixels[:, :3] == 100).all()
    assert (pixels[1:-1, 5:7] == 100).all()


def test_a_map_below_every_level_has_no_contours():
    assert contours(GREY, torch.full((3, 3), 0.2)).tobytes() == GREY.tobytes()


@pytest.mark.parametrize("draw", [overlay, contours])
def test_a_map_that_is_zero_everywhere_says_so_along_the_lower_edge_and_no_other_map_does(draw):
    photograph = Image.new("RGB", (64, 64), (100, 100, 100))
    empty, faint = np.asarray(draw(photograph, torch.zeros(7, 7))), np.zeros((7, 7), dtype=np.float32)
    assert (empty[-12:, 0] == 0).all()  # a black band
    assert (empty[-12:] > 200).any()  # with letters
    faint[3, 3] = 0.01
    drawn = np.asarray(draw(photograph, torch.from_numpy(faint)))
    assert (drawn[-12:] == drawn[0, 0]).all()
    assert (drawn[:-16] == empty[:-16]).mean() > 0.9  # above the band the two hardly differ
