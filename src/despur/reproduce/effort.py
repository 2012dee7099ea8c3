"""What a reproduction will take, before it starts: from one batch through the encoder, timed on this machine."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from despur.catalog import load_backbone
from despur.pipeline.settings import StudySettings
from despur.report.words import duration

TRIAL = 8
"""Images of the batch that is timed; after one that is not."""


@dataclass(frozen=True)
class Effort:
    """Time and disk of embedding every image once; training and maps are not in it.

    Attributes:
        model: the spec.
        images: how many are embedded.
        seconds: at the rate of the timed batch, reading from disk not included.
        megabytes: of features on disk.
    """

    model: str
    images: int
    seconds: float
    megabytes: float

    def sentence(self) -> str:
        """The estimate in words."""
        return (
            f"{self.model}: {self.images:,} images take about {duration(self.seconds)} in the encoder here, once, and "
            f"{self.megabytes:,.0f} MB on disk; training and maps come on top"
        )

    def to_json(self) -> dict[str, Any]:
        """The estimate as plain values."""
        return asdict(self)


def estimate(study: StudySettings, spec: str, images: int, device: torch.device) -> Effort:
    """Time and disk of one model's embedding.

    Raises:
        ModelError: the weights cannot be had.
    """
    model = study.model(spec)
    backbone = load_backbone(
        spec, random_weights=model.random_weights, trainable=model.trainable, seed=model.seed, device=device
    )
    pixels = torch.zeros(TRIAL, 3, backbone.framing.height, backbone.framing.width, device=device)
    with torch.inference_mode():
        features = backbone.image_features(pixels)
        started = time.perf_counter()
        backbone.image_features(pixels).sum().item()
        seconds = time.perf_counter() - started
    bytes_each = features[0].numel() * (2 if study.embed.dtype == "float16" else 4)
    return Effort(spec, images, seconds / TRIAL * images, images * bytes_each / 1e6)
