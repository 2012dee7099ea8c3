from __future__ import annotations

import base64
from io import BytesIO

import pytest
from PIL import Image

from despur.report import Panel, Strip
from despur.report.strips import MOST_STRIPS, alternative, by_group, data_uri


def embedded(uri: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def test_a_large_photograph_is_made_small_and_keeps_its_shape() -> None:
    image = embedded(data_uri(Image.effect_noise((1000, 500), 80)))
    assert (image.size, image.format) == ((224, 112), "JPEG")


def test_a_small_picture_goes_in_exactly() -> None:
    picture = Image.effect_noise((96, 64), 80).convert("RGB")
    assert embedded(data_uri(picture)).tobytes() == picture.tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_every_mode_is_taken(mode: str) -> None:
    assert embedded(data_uri(Image.new(mode, (8, 8)))).size == (8, 8)


def test_transparency_shows_white() -> None:
    assert embedded(data_uri(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))).getpixel((0, 0)) == (255, 255, 255)


def test_the_picture_that_was_given_is_not_changed() -> None:
    picture = Image.new("RGB", (500, 500))
    data_uri(picture)
    assert picture.size == (500, 500)


def test_consecutive_strips_share_a_heading_and_their_number_is_bounded() -> None:
    strips = [Strip(f"{number}.jpg", "on land" if number < 10 else "on water", []) for number in range(60)]
    gathered = by_group(strips)
    assert [(each.group, len(each.strips)) for each in gathered] == [("on land", 10), ("on water", MOST_STRIPS - 10)]


def test_the_alternative_text_says_what_the_model_said() -> None:
    picture = Image.new("RGB", (4, 4))
    map_before = Panel(picture, "zero-shot", said="landbird", correct=False, aiou=0.2)
    strip = Strip("7.jpg", "waterbird on land", [Panel(picture, "photograph"), map_before])
    assert [alternative(panel, strip) for panel in strip.panels] == [
        "photograph of 7.jpg, waterbird on land",
        "Where zero-shot looks in 7.jpg; it says landbird, AIoU 0.200",
    ]
