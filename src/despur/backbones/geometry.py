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
        """(width, height) of the resized photograph and the (left, top) of the encoder's window in it, pixels."""
        width, height = size
        if self.mode == "squash":
            return self.width, self.height, 0, 0
        choose = max if self.mode == "shortest" else min
        scale = choose(self.width / width, self.height / height)
        # torchvision truncates the longer side, exactly as `int(size * long / short)`.
        if self.mode == "shortest":
            scaled_width = self.width if width <= height else int(self.width * width / height)
            scaled_height = self.height if height <= width else int(self.height * height / width)
        else:
            scaled_width, scaled_height = round(width * scale), round(height * scale)
        left = round((scaled_width - self.width) / 2.0)
        top = round((scaled_height - self.height) / 2.0)
        return scaled_width, scaled_height, left, top

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
