"""Where the pixels of a photograph land in the square that the encoder sees, for images, boxes and masks alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image


@dataclass(frozen=True)
class Framing:
    """Resize and crop of a model's preprocessing.

    Attributes:
        height, width: the encoder's input size in pixels.
        mode: "shortest" (shorter side to the size, centre crop; CLIP), "squash" (both sides to the size; SigLIP) or
            "longest" (longer side to the size, padded).
    """

    height: int
    width: int
    mode: str = "shortest"

    def _scaled(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """(width, height) of the resized photograph and the (left, top) of the encoder's window in it, pixels.

        Rounded exactly as torchvision and open_clip round.
        """
        width, height = size
        if self.mode == "squash":
            return self.width, self.height, 0, 0
        if self.mode == "shortest" and self.width == self.height:
            # A square takes torchvision's own resize, which truncates the longer side.
            scaled_width = self.width if width <= height else int(self.width * width / height)
            scaled_height = self.height if height <= width else int(self.height * height / width)
        else:
            choose = min if self.mode == "shortest" else max
            ratio = choose(width / self.width, height / self.height)
            scaled_width, scaled_height = max(1, round(width / ratio)), max(1, round(height / ratio))
        return (
            scaled_width,
            scaled_height,
            _window_start(scaled_width, self.width),
            _window_start(scaled_height, self.height),
        )

    def box(self, box: Float[np.ndarray, "4"], size: tuple[int, int]) -> Float[np.ndarray, "4"]:
        """A box (x0, y0, x1, y1) of a photograph of ``size`` (width, height) pixels, in pixels of the encoder's input.

        What lies outside the crop is cut off; a box wholly outside has no area.
        """
        scaled_width, scaled_height, left, top = self._scaled(size)
        scale = np.array([scaled_width / size[0], scaled_height / size[1]] * 2)
        framed = np.asarray(box, dtype=np.float64) * scale - np.array([left, top, left, top])
        return np.clip(framed, 0.0, np.array([self.width, self.height, self.width, self.height], dtype=np.float64))

    def mask(self, mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "rows columns"]:
        """A mask of a photograph's size, resized (nearest pixel) and cropped as the photograph is."""
        height, width = mask.shape
        scaled_width, scaled_height, left, top = self._scaled((width, height))
        image = Image.fromarray(mask.astype(np.uint8) * 255).resize(
            (scaled_width, scaled_height), Image.Resampling.NEAREST
        )
        window = image.crop((left, top, left + self.width, top + self.height))
        return np.asarray(window) >= 128

    def image(self, image: Image.Image) -> Image.Image:
        """The photograph as the encoder sees it: resized (bicubic) and cropped, padded with black where it ends."""
        scaled_width, scaled_height, left, top = self._scaled(image.size)
        resized = image.resize((scaled_width, scaled_height), Image.Resampling.BICUBIC)
        return resized.crop((left, top, left + self.width, top + self.height))

    def uncropped(
        self, window: Float[np.ndarray, "rows columns"], size: tuple[int, int]
    ) -> Float[np.ndarray, "height width"]:
        """What was measured in the encoder's input, laid over the whole photograph at the size that it was resized to.

        Args:
            window: a value a pixel of the encoder's input.
            size: (width, height) of the photograph, pixels.

        Returns:
            The photograph's shape; 0 in what the crop cut off, and without what padded it.
        """
        width, height, left, top = self._scaled(size)
        over = np.zeros((height, width), dtype=window.dtype)
        rows = slice(max(top, 0), min(top + self.height, height))
        columns = slice(max(left, 0), min(left + self.width, width))
        inside = window[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        over[rows, columns] = inside
        return over


def _window_start(scaled: int, window: int) -> int:
    """Where a centred window begins in a side of ``scaled`` pixels; negative where it is padded."""
    return round((scaled - window) / 2.0) if scaled >= window else -((window - scaled) // 2)
