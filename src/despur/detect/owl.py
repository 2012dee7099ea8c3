"""OWL-ViT and OWLv2 (through transformers), with the phrases encoded once instead of again for every image.

transformers' own forward takes images and phrases together, so that 1,600 phrases cost some twenty times what an image
costs, every time. Here the text tower runs once a run; an image costs its tower, one matrix product with the phrases,
and the box head on the few places where something was seen. Scores, phrases and boxes are those of the library's
forward and post-processing, boxes cut at the image's border.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor
from transformers import Owlv2ForObjectDetection, OwlViTForObjectDetection, PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor

from despur.backbones.digest import weights_digest
from despur.detect.boxes import inside, to_corners
from despur.detect.protocol import ENCODED_AT_ONCE, NOT_FINITE, Detections, Queries
from despur.detect.vocabulary import Removal
from despur.errors import ModelError
from despur.workspace import fingerprint

TEMPLATE = "a photo of a {}"
"""The released prompt (METHOD 3.1)."""

PHRASES_AT_ONCE = 2048
"""Phrases that places are compared with at a time: memory stays flat however many there are."""

PerBox = Literal["best", "every"]


class OwlDetector:
    """An OWL model, built already.

    Args:
        model: ``OwlViTForObjectDetection`` or ``Owlv2ForObjectDetection``; switched to evaluation, gradients off.
        tokenizer, image_processor: the model's own.
        spec: how the user named it.
        threshold: a place whose score is not above it shows nothing; in [0, 1).
        phrases_per_box: "best": every place names the one phrase that it fits best, as in the library's post-processing
            and the released code; "every": a phrase is seen wherever its own score is above the threshold, at its best
            place in the image, so that adding a synonym to the vocabulary hides nothing.
        template: the prompt, with ``{}`` where a phrase goes.
    """

    def __init__(
        self,
        model: OwlViTForObjectDetection | Owlv2ForObjectDetection,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: BaseImageProcessor,
        *,
        spec: str,
        threshold: float = 0.1,
        phrases_per_box: PerBox = "best",
        template: str = TEMPLATE,
    ) -> None:
        self.spec = spec
        self.threshold = threshold
        self.phrases_per_box: PerBox = phrases_per_box
        self.template = template
        self._model: Any = model.eval().requires_grad_(False)
        self._towers: Any = model.owlv2 if isinstance(model, Owlv2ForObjectDetection) else model.owlvit
        # OWLv2 pads the image to a square at the right and below, and its boxes are fractions of that square.
        self._padded = isinstance(model, Owlv2ForObjectDetection)
        self._tokenizer: Any = tokenizer
        self._image_processor: Any = image_processor
        self._context = int(self._model.config.text_config.max_position_embeddings)

    def fingerprint(self) -> str:
        """Digest over weights, preprocessing, tokens and settings."""
        probe = self._tokenizer([self.template.format("quick brown fox, 23 jpegs!")], verbose=False)["input_ids"]
        return fingerprint(
            weights_digest(self._model),
            {
                "image": self._image_processor.to_json_string(),
                "probe": [list(row) for row in probe],
                "template": self.template,
                "threshold": self.threshold,
                "phrases_per_box": self.phrases_per_box,
            },
        )

    @torch.no_grad()
    def encode(self, phrases: Sequence[str]) -> Queries[Float[Tensor, "phrases dim"]]:
        """Unit vectors of the phrases; those longer than the text context are left out and named.

        Raises:
            ModelError: the text tower's output is not finite, or the tokenizer does not fit the model.
        """
        texts = [self.template.format(phrase) for phrase in phrases]
        lengths = [len(row) for row in self._tokenizer(texts, verbose=False)["input_ids"]] if texts else []
        fits = [length <= self._context for length in lengths]
        kept = tuple(phrase for phrase, fit in zip(phrases, fits, strict=True) if fit)
        removed = tuple(
            Removal(phrase, f"longer than the text context ({length} tokens, the detector reads {self._context})")
            for phrase, length, fit in zip(phrases, lengths, fits, strict=True)
            if not fit
        )
        parts = [
            self._encode_batch(kept[start : start + ENCODED_AT_ONCE]) for start in range(0, len(kept), ENCODED_AT_ONCE)
        ]
        dim = self._model.class_head.dense0.out_features
        encoded = torch.cat(parts) if parts else torch.zeros(0, dim, device=self._model.device)
        if not torch.isfinite(encoded).all():
            row = int((~torch.isfinite(encoded)).any(dim=1).nonzero()[0])
            raise ModelError(
                f"its text tower gives no finite numbers for {kept[row]!r}",
                where=self.spec,
                now="use float32, or another detector",
            )
        return Queries(kept, removed, encoded)

    def _encode_batch(self, phrases: Sequence[str]) -> Float[Tensor, "phrases dim"]:
        tokens = self._tokenizer(
            [self.template.format(phrase) for phrase in phrases],
            padding="max_length",
            max_length=self._context,
            return_tensors="pt",
        ).to(self._model.device)
        if (tokens["input_ids"][:, 0] <= 0).any():
            # The model takes a query whose first token is 0 for padding and never finds it.
            raise ModelError(
                "its tokenizer starts a text with token 0, which the model reads as padding", where=self.spec
            )
        pooled = self._towers.text_model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output
        projected = F.normalize(self._towers.text_projection(pooled), dim=-1)
        # The class head normalises what the towers have normalised already, with a small constant.
        return projected / (projected.norm(dim=-1, keepdim=True) + 1e-6)

    @torch.no_grad()
    def detect(self, images: Sequence[Image.Image], queries: Queries[Float[Tensor, "phrases dim"]]) -> Detections:
        """What is seen in some upright RGB images; an image whose scores or boxes are not finite has failed."""
        pixels = self._image_processor(images=list(images), return_tensors="pt")["pixel_values"]
        features = self._image_features(pixels.to(self._model.device, self._model.dtype))
        width_height = torch.tensor([image.size for image in images], dtype=torch.float32, device=features.device)
        whole = width_height.amax(dim=1, keepdim=True).expand(-1, 2) if self._padded else width_height
        scores, phrase, image, place = self._seen(features, queries.encoded, width_height, whole)
        boxes = self._boxes(features, image, place) * whole[image].repeat(1, 2)

        finite = torch.isfinite(features).flatten(1).all(dim=1)
        finite[image[~(torch.isfinite(scores) & torch.isfinite(boxes).all(dim=1))]] = False
        boxes, any_area = inside(boxes, width_height[image])
        keep = finite[image] & any_area
        failed = dict.fromkeys((~finite).nonzero().flatten().tolist(), NOT_FINITE)
        return Detections(
            image[keep].cpu().numpy(),
            phrase[keep].cpu().numpy(),
            scores[keep].cpu().numpy(),
            boxes[keep].cpu().numpy(),
            failed,
        )

    def _image_features(self, pixels: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images places width"]:
        """Features of every place of the image tower's grid, as both heads read them."""
        feature_map, _ = self._model.image_embedder(pixel_values=pixels)
        return feature_map.flatten(1, 2)

    def _seen(
        self,
        features: Float[Tensor, "images places width"],
        encoded: Float[Tensor, "phrases dim"],
        size: Float[Tensor, "images 2"],
        whole: Float[Tensor, "images 2"],
    ) -> tuple[
        Float[Tensor, "seen"],
        Int[Tensor, "seen"],
        Int[Tensor, "seen"],
        Int[Tensor, "seen"],
    ]:
        """Score, phrase, image and place of what is above the threshold, ordered by image.

        Args:
            size: (width, height) of each image, pixels.
            whole: the same of what the tower saw, padding included.
        """
        head = self._model.class_head
        embedded = head.dense0(features)
        embedded = embedded / (embedded.norm(dim=-1, keepdim=True) + 1e-6)
        shift, scale = head.logit_shift(features), F.elu(head.logit_scale(features)) + 1
        if len(encoded) == 0:
            nothing = torch.zeros(0, dtype=torch.int64, device=features.device)
            return features.new_zeros(0, dtype=torch.float32), nothing, nothing, nothing
        if self.phrases_per_box == "best":
            # Shift and scale (which is not negative) do not change which phrase fits a place best, so that they are
            # applied to one number a place instead of one a place and phrase.
            cosine, best = _best_phrase(embedded.to(encoded.dtype), encoded)
            scores = torch.sigmoid(((cosine.unsqueeze(-1) + shift) * scale).float()).squeeze(-1)
            image, place = _above(scores, self.threshold)
            return scores[image, place], best[image, place], image, place
        outside = self._outside(features, size, whole)
        scores, best = _best_place(embedded.to(encoded.dtype), encoded, shift, scale, outside)
        image, phrase = _above(scores, self.threshold)
        return scores[image, phrase], phrase, image, best[image, phrase]

    def _outside(
        self,
        features: Float[Tensor, "images places width"],
        size: Float[Tensor, "images 2"],
        whole: Float[Tensor, "images 2"],
    ) -> Bool[Tensor, "images places"]:
        """Places whose box has no area in the image: one in the padding must not stand for a phrase seen elsewhere."""
        images, places = features.shape[:2]
        image = torch.arange(images, device=features.device).repeat_interleave(places)
        place = torch.arange(places, device=features.device).repeat(images)
        boxes = self._boxes(features, image, place) * whole[image].repeat(1, 2)
        _, any_area = inside(boxes, size[image])
        # A box that is no number stays, so that its image is reported as failed.
        return (~any_area & torch.isfinite(boxes).all(dim=1)).view(images, places)

    def _boxes(
        self, features: Float[Tensor, "images places width"], image: Int[Tensor, "seen"], place: Int[Tensor, "seen"]
    ) -> Float[Tensor, "seen 4"]:
        """Corners of the boxes at the chosen places, as fractions of the tower's input; only those are decoded."""
        raw = self._model.box_head(features[image, place]) + self._model.box_bias[place]
        return to_corners(raw.sigmoid().float())


def _above(scores: Float[Tensor, "images columns"], threshold: float) -> tuple[Tensor, ...]:
    """Row and column of what is above the threshold, or is no number at all (which must not pass for "not seen")."""
    return ((scores > threshold) | torch.isnan(scores)).nonzero(as_tuple=True)


def _best_phrase(
    places: Float[Tensor, "images places dim"], phrases: Float[Tensor, "phrases dim"]
) -> tuple[Float[Tensor, "images places"], Int[Tensor, "images places"]]:
    """Each place's highest cosine with a phrase, and the phrase."""
    best = torch.full(places.shape[:2], -torch.inf, dtype=places.dtype, device=places.device)
    which = torch.zeros(places.shape[:2], dtype=torch.int64, device=places.device)
    for start in range(0, len(phrases), PHRASES_AT_ONCE):
        cosine, index = (places @ phrases[start : start + PHRASES_AT_ONCE].mT).max(dim=-1)
        better = (cosine > best) | torch.isnan(cosine)
        best, which = torch.where(better, cosine, best), torch.where(better, index + start, which)
    return best, which


def _best_place(
    places: Float[Tensor, "images places dim"],
    phrases: Float[Tensor, "phrases dim"],
    shift: Float[Tensor, "images places 1"],
    scale: Float[Tensor, "images places 1"],
    outside: Bool[Tensor, "images places"],
) -> tuple[Float[Tensor, "images phrases"], Int[Tensor, "images phrases"]]:
    """Each phrase's highest score at a place that is not ``outside``, and the place."""
    parts = [
        (((places @ phrases[start : start + PHRASES_AT_ONCE].mT) + shift) * scale)
        .masked_fill(outside.unsqueeze(-1), -torch.inf)
        .max(dim=1)
        for start in range(0, len(phrases), PHRASES_AT_ONCE)
    ]
    logits, where = (torch.cat(column, dim=-1) for column in zip(*parts, strict=True))
    return torch.sigmoid(logits.float()), where
