"""An encoder whose features can be checked by eye, and photographs of one colour each."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from despur.backbones.geometry import Framing
from despur.backbones.protocol import LayerOutput
from despur.errors import ModelError


class ColourBackbone:
    """Image features: mean red, green, blue in [0, 1]. Text features: numbers of letters and of words."""

    spec = "colour"
    framing = Framing(4, 4)
    context_length = 16
    device = torch.device("cpu")

    def __init__(self, *, gain: float = 1.0, pause: float = 0.0) -> None:
        self.gain = gain
        self.pause = pause
        self.batches: list[int] = []
        self.texts = 0

    def fingerprint(self) -> str:
        return f"colour {self.gain}"

    def heads(self) -> dict[str, torch.Tensor]:
        return {"image.weight": torch.eye(3), "text.weight": torch.eye(3, 2), "logit_scale": torch.tensor(0.0)}

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image.resize((4, 4)), dtype=np.float32)).permute(2, 0, 1) / 255

    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(pixels))
        time.sleep(self.pause)
        return pixels.mean((2, 3)) * self.gain

    def tokenize(self, texts: list[str]) -> torch.Tensor:
        for text in texts:
            if len(text.split()) > self.context_length:
                raise ModelError(f"the text {text!r} is too long")
        return torch.tensor([[len(text), len(text.split())] for text in texts])

    def text_features(self, tokens: torch.Tensor) -> torch.Tensor:
        self.texts += len(tokens)
        return tokens.float()

    def trunk(self, pixels: torch.Tensor) -> LayerOutput:
        return LayerOutput(pixels, None, (4, 4))

    def finish(self, output: LayerOutput) -> torch.Tensor:
        return output.activations.mean((2, 3))


def paint(folder: Path, count: int) -> list[Path]:
    """Photographs whose red is their number out of 255, with green 51 and blue 102."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", (8, 6), (number, 51, 102)).save(path)
    return paths


@pytest.fixture
def colour() -> type[ColourBackbone]:
    return ColourBackbone


@pytest.fixture
def photographs(tmp_path: Path) -> Callable[[int], list[Path]]:
    return lambda count: paint(tmp_path / "photographs", count)
