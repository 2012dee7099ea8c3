"""The model under study as its own detector: each phrase against a neutral prompt. For machines where a detector is too
slow; it answers *whether*, never *where*, and it shares the model's own confusions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from despur.backbones.heads import embed_images, embed_texts, inverse_temperature
from despur.backbones.protocol import Backbone
from despur.detect.protocol import ENCODED_AT_ONCE, NOT_FINITE, Detections, Queries
from despur.detect.vocabulary import Removal
from despur.errors import ModelError
from despur.workspace import fingerprint

NEUTRAL = "a photo"
TEMPLATE = "a photo of a {}"


def tag_scores(
    images: Float[Tensor, "images dim"],
    phrases: Float[Tensor, "phrases dim"],
    neutral: Float[Tensor, "dim"],
    scale: float,
) -> Float[Tensor, "images phrases"]:
    """Probability, in [0, 1], that a phrase describes an image better than a prompt that says nothing.

    The softmax over the two prompts: the logistic function of the difference of their cosines times ``scale``.

    Args:
        images, phrases, neutral: unit vectors.
        scale: 1/τ of the model.
    """
    return torch.sigmoid(scale * (images @ (phrases - neutral).mT))


class Tagger:
    """Tags images with phrases by a CLIP-like model.

    Args:
        backbone: the model under study, or any other.
        threshold: a phrase is seen where its score is above it; in [0, 1).
        template: the prompt, with ``{}`` where a phrase goes.
        neutral: the prompt that says nothing of what an image shows.
    """

    def __init__(
        self, backbone: Backbone, *, threshold: float = 0.5, template: str = TEMPLATE, neutral: str = NEUTRAL
    ) -> None:
        self.spec = f"tagger ({backbone.spec})"
        self.threshold = threshold
        self.template = template
        self.neutral = neutral
        self._backbone = backbone
        self._heads = {name: value.to(backbone.device) for name, value in backbone.heads().items()}

    def fingerprint(self) -> str:
        """Digest over the model and the settings."""
        return fingerprint(self._backbone.fingerprint(), [self.threshold, self.template, self.neutral])

    @torch.no_grad()
    def encode(self, phrases: Sequence[str]) -> Queries[Float[Tensor, "texts dim"]]:
        """Unit vectors of the phrases, the neutral prompt's last; phrases that do not fit the context are left out."""
        kept, removed = list[str](), list[Removal]()
        tokens: list[Tensor] = []
        for phrase in phrases:
            try:
                tokens.append(self._backbone.tokenize([self.template.format(phrase)]))
                kept.append(phrase)
            except ModelError as error:
                removed.append(Removal(phrase, f"longer than the text context ({error.what})"))
        rows = torch.cat([*tokens, self._backbone.tokenize([self.neutral])]).to(self._backbone.device)
        embedded = [
            embed_texts(self._heads, self._backbone.text_features(rows[start : start + ENCODED_AT_ONCE]).float())
            for start in range(0, len(rows), ENCODED_AT_ONCE)
        ]
        return Queries(tuple(kept), tuple(removed), torch.cat(embedded))

    @torch.no_grad()
    def detect(self, images: Sequence[Image.Image], queries: Queries[Float[Tensor, "texts dim"]]) -> Detections:
        """The phrases that describe each image better than the neutral prompt does."""
        pixels = torch.stack([self._backbone.preprocess(image) for image in images]).to(self._backbone.device)
        return self.tag(self._backbone.image_features(pixels), queries)

    @torch.no_grad()
    def tag(self, features: Tensor, queries: Queries[Float[Tensor, "texts dim"]]) -> Detections:
        """The same from image features that were kept (``embed``), without reading an image again.

        Args:
            features: of each image, before the projection, in the shape that the model's image encoder gives.
        """
        embedded = embed_images(self._heads, features.to(self._backbone.device, torch.float32))
        scale = float(inverse_temperature(self._heads))
        scores = tag_scores(embedded, queries.encoded[:-1], queries.encoded[-1], scale).cpu()
        finite = torch.isfinite(embedded).all(dim=1).cpu() & torch.isfinite(scores).all(dim=1)
        image, phrase = ((scores > self.threshold) & finite[:, None]).nonzero(as_tuple=True)
        return Detections(
            image.numpy(),
            phrase.numpy(),
            scores[image, phrase].numpy(),
            np.full((len(image), 4), np.nan, dtype=np.float32),
            dict.fromkeys((~finite).nonzero().flatten().tolist(), NOT_FINITE),
        )
