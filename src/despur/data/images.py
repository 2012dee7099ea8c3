"""Reading images and masks as they are found; what cannot be read says why."""

from __future__ import annotations

import errno
import stat
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Bool
from PIL import Image, UnidentifiedImageError

from despur.data.stores import is_stored, open_binary
from despur.errors import DataError
from despur.progress import Progress, silent
from despur.workspace import fingerprint_stream

MAX_PIXELS = 178_956_970
"""Where Pillow, as it comes, refuses a decompression bomb; held to even where a program has lifted Pillow's limit."""

MAX_RATIO = 500
"""Longer side over shorter side. Encoders resize the shorter one to theirs (up to 448 pixels), by which a strip of one
pixel by thirty thousand, a few kilobytes on disk, would grow to gigabytes."""

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What photographs come in. The rest of Pillow's readers stay shut: one of them (EPS) runs a program on the file."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to turn an image upright, by its EXIF orientation."""

SIDEWAYS = (5, 6, 7, 8)
"""Orientations that trade width for height."""

ORIENTATION = 0x0112

DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What Pillow's readers raise on bytes that break their format."""

BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
"""What Pillow says of a file that claims more pixels than it accepts; a warning where warnings are errors."""


OF_THE_FILE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.EILSEQ,
)
"""What the system says of one file. Anything else (a disk that fails, a share that hangs up, too many open files, no
memory) may befall every image and pass: it stops the work, as a store does that cannot be reached."""

NOT_THERE = "there is no such file"
FORBIDDEN = "it may not be read (permission denied)"
DANGLING = "it is a link to a file that is not there"
NO_MEMORY = "memory does not suffice to read it"

NO_LONGER = (NOT_THERE, FORBIDDEN, DANGLING)
"""Why an image cannot be opened, of which a share that is unmounted and mounted again makes nothing lasting."""

UNREADABLE = "unreadable"
"""The fingerprint of an image that cannot be opened."""


class UnreadableImage(DataError):
    """An image that cannot be read."""

    @property
    def reason(self) -> str:
        """Why, in a few words: "it is cut short"."""
        return self.what


def _is_passing(error: BaseException) -> bool:
    """Whether an error is not the file's own; Pillow's have no number, and are."""
    return isinstance(error, OSError) and error.errno is not None and error.errno not in OF_THE_FILE


def _check_passing(error: BaseException, path: Path) -> None:
    """Stop where an error is not the file's own."""
    if isinstance(error, OSError) and _is_passing(error):
        raise DataError(
            f"it cannot be read now ({(error.strerror or str(error)).lower()})",
            where=path,
            now="mend that and run it again, which goes on where it was stopped; or leave this image out",
        ) from error


def check_still_there(path: Path, reason: str) -> None:
    """Stop where an image is gone that had a fingerprint when the work began, as when a share is unmounted.

    Args:
        reason: why it cannot be read.

    Raises:
        DataError: that is why.
    """
    if reason in NO_LONGER:
        raise DataError(
            f"it was read when the work began, and now {reason}",
            where=path,
            now="bring it back, to every machine that reads images, and run it again: it goes on where it was stopped",
        )


def _check_file(path: Path) -> None:
    """Refuse what is no file with bytes in it, before anything opens it."""
    try:
        found = path.stat()
    except ValueError as error:
        raise UnreadableImage("its name holds a null character", where=path) from error
    except OSError as error:
        _check_passing(error, path)
        if path.is_symlink():
            raise UnreadableImage(DANGLING, where=path) from error
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        forbidden = FORBIDDEN if isinstance(error, PermissionError) else f"{error.strerror}"
        raise UnreadableImage(NOT_THERE if missing else forbidden, where=path) from error
    if stat.S_ISDIR(found.st_mode):
        raise UnreadableImage("it is a folder", where=path)
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableImage("it is not an ordinary file", where=path)
    if found.st_size == 0:
        raise UnreadableImage("it is empty (zero bytes)", where=path)


def _unrecognised(start: bytes) -> str:
    """Why Pillow knows no format for a file that starts like this."""
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
        return "HEIC is not supported (convert it to JPEG or PNG)"
    return "its content is not an image"


def _orientation(image: Image.Image) -> int:
    """EXIF orientation; 1 (upright) where the tag is missing or the EXIF block is damaged, which harms no pixel."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except DAMAGE as error:
        if _is_passing(error):
            raise
        return 1


def upright_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels of the image that :func:`read_image` gives, without decoding it.

    Raises:
        UnreadableImage: it has no size to tell; that it can be decoded is not looked at.
    """
    try:
        with open_binary(path) as file, Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            return (height, width) if _orientation(image) in SIDEWAYS else (width, height)
    except (*DAMAGE, *BOMBS) as error:
        _check_passing(error, path)
        raise UnreadableImage(f"it has no size to tell ({error})", where=path) from error


def _decode(file: BinaryIO, path: Path) -> Image.Image:
    with Image.open(file, formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise UnreadableImage(f"it is a decompression bomb ({width} x {height} pixels)", where=path)
        if max(width, height) > MAX_RATIO * min(width, height):
            raise UnreadableImage(f"it is too thin a strip ({width} x {height} pixels) for an encoder", where=path)
        image.load()
        # Read after the pixels: PNG may hold its EXIF block behind them, and TIFF is turned while it loads.
        turn = UPRIGHT.get(_orientation(image))
        return image.copy() if turn is None else image.transpose(turn)


def _read(path: Path) -> Image.Image:
    """First frame, decoded whole and turned upright, in the mode that it is stored in."""
    if not is_stored(path):
        _check_file(path)
    start = b""
    try:
        with open_binary(path) as file:
            start = file.read(16)
            if not start:
                raise UnreadableImage("it is empty (zero bytes)", where=path)
            file.seek(0)
            return _decode(file, path)
    except UnidentifiedImageError as error:
        raise UnreadableImage(_unrecognised(start), where=path) from error
    except BOMBS as error:
        raise UnreadableImage("it is a decompression bomb (more pixels than Pillow accepts)", where=path) from error
    except FileNotFoundError as error:
        raise UnreadableImage(NOT_THERE, where=path) from error
    except PermissionError as error:
        raise UnreadableImage(FORBIDDEN, where=path) from error
    except MemoryError as error:
        raise UnreadableImage(NO_MEMORY, where=path) from error
    except DAMAGE as error:
        _check_passing(error, path)
        cut = "truncated" in str(error).lower() or isinstance(error, EOFError)
        reason = "it is cut short" if cut else f"it is damaged ({error})"
        raise UnreadableImage(reason, where=path) from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """Modes with 16 bits a pixel, whose own conversion would clip at 255, as 8-bit grey; other modes as they are."""
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).clip(0, 65535)
    return Image.fromarray((values >> 8).astype(np.uint8))


def read_image(path: Path) -> Image.Image:
    """An image as RGB, upright by its EXIF tag, transparency over white, the first frame of an animation.

    Pillow's settings are neither changed nor needed: a truncated or enormous file is refused.

    Raises:
        UnreadableImage: with the reason.
        DataError: its store or its disk cannot be read now, which is no fault of the image's.
    """
    image = _eight_bits(_read(path))
    if image.mode == "F":
        raise UnreadableImage("its pixels are floating-point numbers of unknown range", where=path)
    try:
        if image.has_transparency_data:
            seen = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
        return image.convert("RGB")
    except DAMAGE as error:
        raise UnreadableImage(f"its colours (mode {image.mode}) have no conversion to RGB", where=path) from error


def fingerprint_image(path: Path) -> str:
    """64 hexadecimal digits over an image's contents, here or in its store; ``UNREADABLE`` where it has none.

    What is no ordinary file is not opened: a pipe would be waited for, and a device may never end.

    Raises:
        DataError: its store or its disk cannot be read now.
    """
    try:
        if not is_stored(path) and not stat.S_ISREG(path.stat().st_mode):
            return UNREADABLE
        with open_binary(path) as file:
            return fingerprint_stream(file)
    except (OSError, ValueError) as error:  # a name with a null character in it is a ValueError
        _check_passing(error, path)
        return UNREADABLE


def fingerprint_images(paths: Sequence[Path], progress: Progress = silent) -> list[str]:
    """:func:`fingerprint_image` of every path, several read at once.

    Raises:
        DataError: a store or a disk cannot be read now.
    """
    with ThreadPoolExecutor() as pool:
        found = pool.map(fingerprint_image, paths, chunksize=64)
        return list(progress(found, total=len(paths), label="reading images", unit="images"))


def read_mask(path: Path) -> Bool[np.ndarray, "height width"]:
    """A segmentation mask, upright: True on the object.

    Grey masks count from half brightness on (CUB's grey levels are the share of annotators who marked the pixel);
    masks that hold only 0 and 1 count their ones; masks with a palette count every colour but black.

    Raises:
        UnreadableImage: with the reason.
    """
    image = _eight_bits(_read(path))
    if image.mode in ("P", "PA"):
        return np.asarray(np.asarray(image.convert("RGB")).any(axis=2))
    values = np.asarray(image if image.mode == "F" else image.convert("RGB").convert("L"))
    return values >= (0.5 if values.max() <= 1 else 128)


def read_mask_of(path: Path, image: Path, size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """:func:`read_mask`, upright as its image is.

    Masks are rarely given an EXIF tag of their own. One with the proportions of the pixels that the image is *stored*
    in, which its tag lays on their side, was drawn on those, and is turned as the image is.

    Args:
        image: the photograph that it belongs to.
        size: the upright photograph's (width, height) in pixels.

    Raises:
        UnreadableImage: with the reason; also where it has its image's pixels with width and height traded, and no tag
            says why.
    """
    mask = read_mask(path)
    height, width = mask.shape
    if not _alike((height, width), size) or _alike((width, height), size):
        return mask
    with open_binary(image) as file, Image.open(file, formats=FORMATS) as stored:
        orientation = _orientation(stored)
    if orientation in SIDEWAYS:
        return np.asarray(Image.fromarray(mask.astype(np.uint8)).transpose(UPRIGHT[orientation]), dtype=np.bool_)
    if (height, width) == size:
        raise UnreadableImage(
            f"it has {width} x {height} pixels and its image {size[0]} x {size[1]}", where=path, now="turn it upright"
        )
    return mask


def _alike(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two sizes (width, height) have the same proportions, up to a pixel of rounding in the first."""
    return abs(first[0] - first[1] * second[0] / second[1]) < 1
