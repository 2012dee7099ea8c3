from __future__ import annotations

import errno
import io
import os
import pickle
import struct
import threading
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from despur.data.images import (
    UPRIGHT,
    UnreadableImage,
    fingerprint_image,
    fingerprint_images,
    read_image,
    read_mask,
    upright_size,
)
from despur.errors import DataError

RED, GREEN, BLUE, WHITE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (128, 128, 128)


def pixel(file: Path, x: int, y: int) -> tuple[int, ...]:
    return read_image(file).getpixel((x, y))


def quarters() -> Image.Image:
    """16 x 8 pixels: red, green above blue, white."""
    image = Image.new("RGB", (16, 8))
    for box, colour in [((0, 0), RED), ((8, 0), GREEN), ((0, 4), BLUE), ((8, 4), WHITE)]:
        image.paste(colour, (*box, box[0] + 8, box[1] + 4))
    return image


# --- images that are read right

UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera held so would have stored the upright scene."""


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_photograph_is_turned_upright_by_its_exif_tag(tmp_path: Path, orientation: int, suffix: str) -> None:
    stored = quarters().transpose(UNDO[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"turned.{suffix}"
    lossless = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}
    stored.save(file, exif=exif, **lossless.get(suffix, {}))
    difference = np.asarray(read_image(file), dtype=int) - np.asarray(quarters(), dtype=int)
    assert np.abs(difference).max() <= 2


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_harms_no_pixel(tmp_path: Path) -> None:
    file = tmp_path / "odd.png"
    quarters().save(file, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert np.array_equal(np.asarray(read_image(file)), np.asarray(quarters()))


def test_greyscale_becomes_three_equal_channels(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 77).save(tmp_path / "grey.png")
    assert pixel(tmp_path / "grey.png", 1, 1) == (77, 77, 77)


def test_black_and_white_is_read(tmp_path: Path) -> None:
    Image.new("1", (4, 4), 1).save(tmp_path / "bits.png")
    assert pixel(tmp_path / "bits.png", 1, 1) == WHITE


def test_a_palette_gives_its_colours(tmp_path: Path) -> None:
    quarters().quantize(4).save(tmp_path / "palette.png")
    assert np.array_equal(np.asarray(read_image(tmp_path / "palette.png")), np.asarray(quarters()))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_seen_over_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (4, 1), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 127))
    image.convert(mode).save(tmp_path / "a.png")
    assert [pixel(tmp_path / "a.png", x, 0) for x in range(3)] == [(0, 0, 0), WHITE, GREY]


def test_a_transparent_palette_entry_is_seen_over_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "keyed.png", transparency=0)
    assert [pixel(tmp_path / "keyed.png", x, 0) for x in range(2)] == [WHITE, BLUE]


def test_a_transparent_colour_of_an_rgb_image_is_seen_over_white(tmp_path: Path) -> None:
    quarters().save(tmp_path / "keyed.png", transparency=RED)
    assert [pixel(tmp_path / "keyed.png", x, 1) for x in (1, 9)] == [WHITE, GREEN]


def test_cmyk_gives_its_colours(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=100)
    assert np.abs(np.subtract(pixel(tmp_path / "print.jpg", 4, 4), RED)).max() <= 2


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 256, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    assert np.asarray(read_image(tmp_path / f"deep.{suffix}"))[0].tolist() == [[v] * 3 for v in (0, 1, 128, 255)]


def test_a_progressive_jpeg_equals_the_plain_one(tmp_path: Path) -> None:
    quarters().save(tmp_path / "plain.jpg", quality=90)
    quarters().save(tmp_path / "progressive.jpg", quality=90, progressive=True)
    assert np.array_equal(
        np.asarray(read_image(tmp_path / "plain.jpg")), np.asarray(read_image(tmp_path / "progressive.jpg"))
    )


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animation_gives_its_first_frame(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    lossless = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"moving.{suffix}", save_all=True, append_images=frames[1:], **lossless)
    assert pixel(tmp_path / f"moving.{suffix}", 4, 4) == RED


def test_a_name_with_spaces_and_other_alphabets_is_a_name_like_any(tmp_path: Path) -> None:
    file = tmp_path / "Möwe über dem Meer – カモメ 1.png"
    quarters().save(file)
    assert pixel(file, 1, 1) == RED


def test_the_content_counts_not_the_suffix(tmp_path: Path) -> None:
    quarters().save(tmp_path / "really.png")
    (tmp_path / "really.png").rename(tmp_path / "really.jpg")
    assert pixel(tmp_path / "really.jpg", 1, 1) == RED


# --- images that cannot be read


def reason(file: Path) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_image(file)
    assert str(caught.value).startswith(f"{file}: ")
    return caught.value.reason


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "tif", "bmp"])
def test_a_file_that_breaks_off_is_refused_not_filled_with_grey(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = tmp_path / f"cut.{suffix}"
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[:-2000])
    assert "cut short" in reason(file) or "damaged" in reason(file)


def test_a_truncated_jpeg_is_said_to_be_cut_short(tmp_path: Path) -> None:
    quarters().resize((200, 200)).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    assert reason(tmp_path / "cut.jpg") == "it is cut short"


def test_heic_is_named(tmp_path: Path) -> None:
    (tmp_path / "phone.heic").write_bytes(b"\x00\x00\x00\x24ftypheic\x00\x00\x00\x00mif1heic" + b"\x00" * 64)
    assert reason(tmp_path / "phone.heic").startswith("HEIC is not supported")


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "nothing.jpg").touch()
    assert reason(tmp_path / "nothing.jpg") == "it is empty (zero bytes)"


def test_a_text_called_jpg_is_named(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>404 Not Found</html>")
    assert reason(tmp_path / "page.jpg") == "its content is not an image"


def test_postscript_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "drawing.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    )
    assert reason(tmp_path / "drawing.png") == "its content is not an image"


def _claims(size: int) -> bytes:
    """A PNG of a few bytes that says it is ``size`` pixels high and wide."""
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    body = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + b"\0\0\0\0IDAT"


def test_a_decompression_bomb_is_refused_before_its_pixels_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: object) -> None:
        pytest.fail("the pixels were read")

    (tmp_path / "bomb.png").write_bytes(_claims(100_000))
    monkeypatch.setattr(ImageFile.ImageFile, "load", never)
    assert "decompression bomb" in reason(tmp_path / "bomb.png")
    # A program may have lifted Pillow's own limit.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert reason(tmp_path / "bomb.png") == "it is a decompression bomb (100000 x 100000 pixels)"


def test_a_decompression_bomb_has_no_size_to_tell(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(_claims(100_000))
    with pytest.raises(UnreadableImage, match="no size to tell"):
        upright_size(tmp_path / "bomb.png")


def test_links_folders_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "folder.jpg").mkdir()
    assert reason(tmp_path / "link.jpg") == "it is a link to a file that is not there"
    assert reason(tmp_path / "folder.jpg") == "it is a folder"
    assert reason(tmp_path / "absent.jpg") == "there is no such file"
    assert reason(tmp_path / "folder.jpg" / "x" / "absent.jpg") == "there is no such file"
    assert reason(tmp_path / "nul\0.jpg") == "its name holds a null character"


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENOMEM, errno.ESTALE, errno.ENOTCONN])
@pytest.mark.parametrize("place", ["stat", "open"])
def test_what_may_befall_any_image_stops_the_work_and_is_no_fault_of_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, place: str
) -> None:
    quarters().save(tmp_path / "a.png")

    def fails(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(Path, place, fails)
        for read in (read_image, fingerprint_image):
            with pytest.raises(DataError, match=f"a.png: it cannot be read now.*(?i:{os.strerror(number)})") as problem:
                read(tmp_path / "a.png")
            assert not isinstance(problem.value, UnreadableImage)
    assert read_image(tmp_path / "a.png").size == (16, 8)


def test_a_disk_that_fails_in_the_middle_of_an_image_stops_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quarters().save(tmp_path / "a.png")

    def fails(self: ImageFile.ImageFile) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(ImageFile.ImageFile, "load", fails)
    with pytest.raises(DataError, match="it cannot be read now"):
        read_image(tmp_path / "a.png")


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason(tmp_path / "pipe.jpg") == "it is not an ordinary file"


@pytest.mark.skipif(os.name == "nt", reason="there are no such pipes on Windows")
def test_a_pipe_has_no_fingerprint_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    found: list[str] = []
    paths = [tmp_path / "pipe.jpg", tmp_path / "endless.jpg", tmp_path / "nul\0.jpg"]
    reader = threading.Thread(target=lambda: found.extend(map(fingerprint_image, paths)), daemon=True)
    reader.start()
    reader.join(timeout=20)
    assert found == ["unreadable"] * 3


def test_a_strip_that_an_encoder_would_blow_up_to_gigabytes_is_refused_by_its_sides(tmp_path: Path) -> None:
    Image.new("RGB", (1, 30_000)).save(tmp_path / "tall.png")
    Image.new("RGB", (2, 1_001)).save(tmp_path / "just.png")
    Image.new("RGB", (1_000, 2)).save(tmp_path / "wide.png")
    assert reason(tmp_path / "tall.png") == "it is too thin a strip (1 x 30000 pixels) for an encoder"
    assert "too thin" in reason(tmp_path / "just.png")
    assert read_image(tmp_path / "wide.png").size == (1_000, 2)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.new("F", (4, 4), 0.5).save(tmp_path / "depth.tif")
    assert "unknown range" in reason(tmp_path / "depth.tif")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"])
def test_broken_bytes_are_either_read_or_refused(tmp_path: Path, kind: str) -> None:
    buffer = io.BytesIO()
    quarters().save(buffer, kind)
    generator = np.random.default_rng(0)
    file = tmp_path / "broken"
    for _ in range(60):
        content = np.frombuffer(buffer.getvalue(), dtype=np.uint8).copy()
        content[generator.integers(0, len(content), 4)] = generator.integers(0, 256, 4)
        file.write_bytes(content.tobytes())
        with suppress(UnreadableImage):
            assert read_image(file).mode == "RGB"


def test_a_reason_crosses_from_a_worker_process() -> None:
    error = pickle.loads(pickle.dumps(UnreadableImage("it is cut short", where="a.jpg")))  # noqa: S301
    assert (error.reason, str(error)) == ("it is cut short", "a.jpg: it is cut short")


def test_pillows_settings_are_left_alone(tmp_path: Path) -> None:
    def settings() -> tuple[object, ...]:
        return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, ImageFile.MAXBLOCK

    before = settings()
    quarters().save(tmp_path / "a.png")
    read_image(tmp_path / "a.png")
    assert settings() == before


# --- masks


def test_a_mask_counts_from_half_of_the_annotators_on(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 51, 102, 153, 204, 255]], dtype=np.uint8)).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == [[False, False, False, True, True, True]]


def test_a_mask_of_zeros_and_ones_counts_its_ones(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1], [1, 0]], dtype=np.uint8)).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == [[False, True], [True, False]]


def test_an_empty_mask_marks_nothing(tmp_path: Path) -> None:
    Image.new("L", (3, 2)).save(tmp_path / "m.png")
    mask = read_mask(tmp_path / "m.png")
    assert (mask.shape, mask.dtype, mask.any()) == ((2, 3), np.bool_, False)


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "LA"])
def test_a_black_and_white_mask_reads_the_same_in_every_mode(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8))
    grey.convert(mode).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == [[False, True], [True, False]]


def test_a_palette_mask_counts_every_colour_but_black(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([0, 0, 0, 128, 0, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == [[False, True]]


def test_an_unreadable_mask_says_why(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="no such file"):
        read_mask(tmp_path / "absent.png")


def test_fingerprints_of_many_images_are_those_of_each_and_progress_sees_every_one(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(130)]
    for path in paths[1:]:
        path.write_bytes(path.name.encode())
    seen: list[tuple[int, str]] = []

    def progress(steps: Any, *, total: int, label: str, unit: str = "steps", each: int = 1) -> Any:
        for step in steps:
            seen.append((total, unit))
            yield step

    found = fingerprint_images(paths, progress)
    assert found == [fingerprint_image(path) for path in paths]
    assert found[0] == "unreadable"
    assert seen == [(130, "images")] * 130
