"""What a reproduction will take, before it starts: from a batch through encoder and detector, timed on this machine."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image

from despur.birdland.detector_model import load_small_detector
from despur.catalog import load_backbone
from despur.detect import load_detector
from despur.features.engine import EmbedSettings
from despur.pipeline.detecting import COLUMN, TAGGER, is_built_in, read_vocabulary
from despur.pipeline.settings import ModelSettings, SearchSettings
from despur.report.words import duration

TRIAL = 8
"""Images of the batch that is timed; after one that is not."""

SIGHTINGS, BYTES = 15, 40
"""Detections an image and bytes of each that are reckoned with; what is really seen depends on the images."""


@dataclass(frozen=True)
class Effort:
    """Time and disk of embedding, or searching, every image once; training and maps are not in it.

    Attributes:
        model: the spec of the model or detector.
        images: how many go through it.
        seconds: at the rate of the timed batch, reading from disk not included.
        megabytes: of features or detections on disk.
        part: which part of it the images go through.
    """

    model: str
    images: int
    seconds: float
    megabytes: float
    part: str = "encoder"

    def sentence(self) -> str:
        """The estimate in words."""
        return (
            f"{self.model}: {self.images:,} images take about {duration(self.seconds)} in the {self.part} here, once, "
            f"and {self.megabytes:,.0f} MB on disk; training and maps come on top"
        )

    def to_json(self) -> dict[str, Any]:
        """The estimate as plain values."""
        return asdict(self)


def estimate(model: ModelSettings, images: int, device: torch.device, *, fetch: bool = True) -> Effort:
    """Time and disk of one model's embedding, with the settings that a study has by default.

    Args:
        fetch: load the weights that will be used, fetched where they are not here. Otherwise an architecture that
            open_clip knows by name is timed with random ones, which takes as long and needs no gigabytes.

    Raises:
        ModelError: the weights cannot be had.
    """
    by_name = model.spec.startswith("open_clip:") and not model.spec.startswith(
        ("open_clip:hf-hub:", "open_clip:local-dir:")
    )
    backbone = load_backbone(
        model.spec,
        random_weights=model.random_weights or (by_name and not fetch),
        trainable=model.trainable,
        seed=model.seed,
        device=device,
    )
    pixels = torch.zeros(TRIAL, 3, backbone.framing.height, backbone.framing.width, device=device)
    with torch.inference_mode():
        features = backbone.image_features(pixels)
        started = time.perf_counter()
        backbone.image_features(pixels).sum().item()
        seconds = time.perf_counter() - started
    bytes_each = features[0].numel() * (2 if EmbedSettings().dtype == "float16" else 4)
    return Effort(model.spec, images, seconds / TRIAL * images, images * bytes_each / 1e6)


def estimate_search(search: SearchSettings, images: int, device: torch.device) -> Effort:
    """Time and disk of one detector's search; none where it looks at no image.

    Raises:
        DespurError: the detector or a vocabulary cannot be had.
    """
    megabytes = images * SIGHTINGS * BYTES / 1e6
    if search.detector in (COLUMN, TAGGER):
        return Effort(search.detector, images, 0.0, megabytes, "detector")
    load = load_small_detector if is_built_in(search.detector) else partial(load_detector, search.detector)
    detector = load(device=device)
    queries = detector.encode(read_vocabulary(search.vocabulary).phrases)
    blank = Image.new("RGB", (256, 256), (127, 127, 127))
    detector.detect([blank], queries)
    started = time.perf_counter()
    detector.detect([blank], queries)
    return Effort(search.detector, images, (time.perf_counter() - started) * images, megabytes, "detector")
