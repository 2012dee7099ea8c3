"""What despur asks of a detector: images in; phrase, score and box out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from despur.detect.vocabulary import Removal

Encoded = TypeVar("Encoded")


@dataclass(frozen=True)
class Queries(Generic[Encoded]):
    """Phrases as one detector reads them, encoded once for any number of images.

    Attributes:
        phrases: those that are looked for; ``Detections.phrase`` counts through them.
        removed: those that this detector cannot read, and why.
        encoded: whatever the detector made of them.
    """

    phrases: tuple[str, ...]
    removed: tuple[Removal, ...]
    encoded: Encoded


@dataclass(frozen=True)
class Detections:
    """What was seen in a batch of images, one entry a sighting, ordered by image.

    Attributes:
        image: index into the batch.
        phrase: index into ``Queries.phrases``.
        score: in [0, 1].
        box: x0, y0, x1, y1 in pixels of the upright image, inside it; NaN where the detector knows no place.
        failed: index and reason of images that the detector could not judge; they have no entries.
    """

    image: Int[np.ndarray, "seen"]
    phrase: Int[np.ndarray, "seen"]
    score: Float[np.ndarray, "seen"]
    box: Float[np.ndarray, "seen 4"]
    failed: dict[int, str]


class Detector(Protocol[Encoded]):
    """An open-vocabulary detector."""

    spec: str
    """How the user named it."""

    def fingerprint(self) -> str:
        """Digest over weights, preprocessing and settings: equal digests see the same things."""
        ...

    def encode(self, phrases: Sequence[str]) -> Queries[Encoded]:
        """Phrases to queries; done once a run."""
        ...

    def detect(self, images: Sequence[Image.Image], queries: Queries[Encoded]) -> Detections:
        """What is seen in some upright RGB images; each image's outcome does not depend on the others."""
        ...


ENCODED_AT_ONCE = 256
"""Phrases that a text tower reads together; it changes nothing in what is seen."""

NOT_FINITE = "the detector's scores or boxes are not finite numbers"
"""Why an image has no outcome; it is quarantined, for "nothing was seen" would be a claim."""
