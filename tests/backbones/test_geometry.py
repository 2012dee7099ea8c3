"""Boxes and masks land where the preprocessing puts the pixels under them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from despur.backbones.geometry import Framing

SIZES = [(64, 64), (100, 60), (60, 100), (333, 250), (251, 500), (47, 33), (90, 31), (31, 90)]
INPUTS = [(32, 32), (24, 40), (40, 24)]
MODES = ["shortest", "squash", "longest"]


def preprocessed(mask: np.ndarray, framing: Framing) -> np.ndarray:
    """How much of each input pixel comes from the marked ones, by the transform that the encoder's images take."""
    settings = PreprocessCfg(
        size=(framing.height, framing.width),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        interpolation="bilinear",
        resize_mode=framing.mode,
    )
    image = Image.fromarray(np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2))
    return image_transform_v2(settings, is_train=False)(image)[0].numpy()


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", INPUTS)
def test_a_mask_covers_the_pixels_that_its_object_fills(
    mode: str, size: tuple[int, int], window: tuple[int, int]
) -> None:
    width, height = size
    if mode == "shortest" and window[0] != window[1]:
        pytest.skip("open_clip resizes these with another filter; boxes are checked below")
    mask = np.zeros((height, width), dtype=bool)
    mask[height // 4 : height * 3 // 4, width // 3 : width * 3 // 4] = True
    framing = Framing(*window, mode)
    share, framed = preprocessed(mask, framing), framing.mask(mask)
    assert framed.shape == window
    # Only pixels on the object's edge, which the transform blends, may be decided either way.
    assert framed[share > 0.75].all()
    assert not framed[share < 0.25].any()


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", INPUTS)
def test_a_box_encloses_the_pixels_that_its_object_fills(
    mode: str, size: tuple[int, int], window: tuple[int, int]
) -> None:
    width, height = size
    left, top, right, bottom = width // 3, height // 4, width * 3 // 4, height * 3 // 4
    mask = np.zeros((height, width), dtype=bool)
    mask[top:bottom, left:right] = True
    framing = Framing(*window, mode)
    box = framing.box(np.array([left, top, right, bottom], dtype=float), size)
    share = preprocessed(mask, framing)
    # Along the middle row and column of the box, the shares add up to its sides.
    row, column = int((box[1] + box[3]) / 2), int((box[0] + box[2]) / 2)
    assert share[row].sum() == pytest.approx(box[2] - box[0], abs=0.6)
    assert share[:, column].sum() == pytest.approx(box[3] - box[1], abs=0.6)
    centre = (share[row] * (np.arange(window[1]) + 0.5)).sum() / share[row].sum()
    assert centre == pytest.approx((box[0] + box[2]) / 2, abs=0.3)


def test_what_the_crop_cuts_off_has_no_area() -> None:
    framing = Framing(50, 50)
    assert framing.box(np.array([0.0, 0, 10, 50]), (150, 50)).tolist() == [0, 0, 0, 50]
    assert framing.box(np.array([0.0, 0, 75, 50]), (150, 50)).tolist() == [0, 0, 25, 50]


@given(
    width=st.integers(40, 600),
    height=st.integers(40, 200),
    mode=st.sampled_from(MODES),
    window=st.sampled_from([(8, 8), (7, 7), (5, 9)]),
)
def test_a_mask_of_everything_fills_all_but_the_padding(
    width: int, height: int, mode: str, window: tuple[int, int]
) -> None:
    framing = Framing(*window, mode)
    framed = framing.mask(np.ones((height, width), dtype=bool))
    box = framing.box(np.array([0.0, 0, width, height]), (width, height))
    assert framed.sum() == round((box[2] - box[0]) * (box[3] - box[1]))
    assert framed.all() or mode == "longest"


@given(size=st.sampled_from(SIZES), window=st.sampled_from(INPUTS), mode=st.sampled_from(MODES))
def test_what_is_laid_back_over_the_photograph_frames_to_itself(
    size: tuple[int, int], window: tuple[int, int], mode: str
) -> None:
    """Ones in the encoder's input cover exactly what a mask of the whole photograph covers there."""
    framing = Framing(*window, mode)
    width, height = size
    seen = framing.mask(np.ones((height, width), dtype=bool))
    over = framing.uncropped(np.arange(seen.size, dtype=np.float64).reshape(seen.shape) + 1, size)
    assert sorted(over[over > 0]) == sorted((np.arange(seen.size).reshape(seen.shape) + 1)[seen])


def test_a_centre_crop_is_laid_back_in_the_middle() -> None:
    """An 80 x 40 photograph seen at 20 x 20: resized to 40 x 20, of which the middle half is seen."""
    over = Framing(20, 20).uncropped(np.ones((20, 20)), (80, 40))
    assert over.shape == (20, 40)
    assert over[:, 10:30].all()
    assert not over[:, :10].any()
    assert not over[:, 30:].any()
