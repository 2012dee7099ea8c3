"""Grounding DINO (through transformers): reads phrases together with the image, a prompt of many phrases at a time.

Its fusion layers see image and phrases at once, so that an image costs one pass through them for every prompt. What
does not depend on the other side is computed once: a prompt's text features once a run, an image's backbone once.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor, nn
from transformers import GroundingDinoForObjectDetection, PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor
from transformers.models.grounding_dino.modeling_grounding_dino import (
    generate_masks_with_special_tokens_and_transfer_map,
)

from despur.backbones.digest import weights_digest
from despur.backbones.towers.views import without
from despur.detect.boxes import inside, to_corners
from despur.detect.protocol import NOT_FINITE, Detections, Queries
from despur.detect.vocabulary import Removal
from despur.workspace import fingerprint

BESIDE_PHRASES = 2
"""Tokens of a prompt that belong to no phrase: its start and its end."""


@dataclass(frozen=True)
class Prompt:
    """Phrases that are read together: "baby. water. sea."

    Attributes:
        tokens: the prompt.
        spans: which tokens are those of each phrase.
        text: the text tower's output.
    """

    tokens: Int[Tensor, "tokens"]
    spans: Bool[Tensor, "phrases tokens"]
    text: Float[Tensor, "1 tokens dim"]


class _Given(nn.Module):
    """Stands where a tower stands in a model and answers what the tower answered before."""

    answer: Any = None

    def forward(self, *_: object, **__: object) -> Any:
        return self.answer


@dataclass(frozen=True)
class _TextAnswer:
    last_hidden_state: Tensor


class GroundingDinoDetector:
    """A Grounding DINO model, built already.

    Args:
        model: switched to evaluation, gradients off; not changed otherwise.
        tokenizer, image_processor: the model's own.
        spec: how the user named it.
        threshold: boxes whose best token scores above it are kept; in [0, 1).
        text_threshold: a box names the phrase of its best token if that scores above it; in [0, 1).
        prompt_tokens: tokens a prompt; at most the model's own limit.
    """

    def __init__(
        self,
        model: GroundingDinoForObjectDetection,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: BaseImageProcessor,
        *,
        spec: str,
        threshold: float = 0.25,
        text_threshold: float = 0.25,
        prompt_tokens: int = 256,
    ) -> None:
        self.spec = spec
        self.threshold = threshold
        self.text_threshold = text_threshold
        self._model: Any = model.eval().requires_grad_(False)
        self._tokenizer: Any = tokenizer
        self._image_processor: Any = image_processor
        self._prompt_tokens = min(prompt_tokens, self._model.config.max_text_len)
        core = self._model.model
        self._text, self._backbone = _Given(), _Given()
        self._backbone.position_embedding = core.backbone.position_embedding
        self._fusion: Any = without(model, "model")
        self._fusion.model = without(core, "text_backbone", "backbone")
        self._fusion.model.text_backbone, self._fusion.model.backbone = self._text, self._backbone

    def fingerprint(self) -> str:
        """Digest over weights, preprocessing, tokens and settings."""
        probe = self._tokenizer("quick brown fox, 23 jpegs!", verbose=False)["input_ids"]
        settings = [self.threshold, self.text_threshold, self._prompt_tokens]
        return fingerprint(
            weights_digest(self._model),
            {"image": self._image_processor.to_json_string(), "probe": list(probe)},
            settings,
        )

    @torch.no_grad()
    def encode(self, phrases: Sequence[str]) -> Queries[tuple[Prompt, ...]]:
        """Prompts of as many phrases as fit, in order; a phrase that fills more than a prompt is left out and named."""
        full_stop = self._tokenizer.convert_tokens_to_ids(".")
        # Full stops and question marks part phrases for this model, so that a phrase cannot hold one.
        words = [phrase.replace(".", " ").replace("?", " ") for phrase in phrases]
        tokens = self._tokenizer(words, add_special_tokens=False, verbose=False)["input_ids"] if words else []
        kept, removed = list[str](), list[Removal]()
        batches: list[list[list[int]]] = []
        longest = self._prompt_tokens - BESIDE_PHRASES - 1
        used = self._prompt_tokens
        for phrase, row in zip(phrases, tokens, strict=True):
            if not 0 < len(row) <= longest:
                removed.append(Removal(phrase, f"does not fit a prompt ({len(row)} tokens of 1 to {longest})"))
                continue
            # A phrase takes its tokens and a full stop.
            if used + len(row) + 1 > self._prompt_tokens:
                batches.append([])
                used = BESIDE_PHRASES
            batches[-1].append(row)
            used += len(row) + 1
            kept.append(phrase)
        prompts = tuple(self._prompt(batch, full_stop) for batch in batches)
        return Queries(tuple(kept), tuple(removed), prompts)

    def _prompt(self, phrases: list[list[int]], full_stop: int) -> Prompt:
        row = [self._tokenizer.cls_token_id]
        spans = torch.zeros(len(phrases), sum(len(tokens) + 1 for tokens in phrases) + BESIDE_PHRASES, dtype=torch.bool)
        for number, tokens in enumerate(phrases):
            spans[number, len(row) : len(row) + len(tokens)] = True
            row += [*tokens, full_stop]
        row.append(self._tokenizer.sep_token_id)
        device = self._model.device
        tokens: Any = torch.tensor([row], device=device)
        core = self._model.model
        mask, positions = generate_masks_with_special_tokens_and_transfer_map(tokens, core.special_tokens)
        text = core.text_backbone(tokens, mask[:, None], torch.zeros_like(tokens), positions, return_dict=True)
        return Prompt(tokens[0], spans.to(device), text.last_hidden_state)

    @torch.no_grad()
    def detect(self, images: Sequence[Image.Image], queries: Queries[tuple[Prompt, ...]]) -> Detections:
        """What is seen in some upright RGB images; images of one input size share a batch, so that none is padded."""
        inputs: dict[int, Tensor] = {}
        thin: dict[int, str] = {}
        for index, image in enumerate(images):
            try:
                pixels = self._image_processor(images=[image], return_tensors="pt")["pixel_values"][0]
            except ValueError:  # at the detector's longest side the other side has no pixel left
                thin[index] = f"{image.width} x {image.height} pixels are too long and thin for the detector"
            else:
                inputs[index] = pixels.to(self._model.device, self._model.dtype)
        nothing = np.zeros(0, dtype=np.int64)
        parts = [Detections(nothing, nothing, np.zeros(0, np.float32), np.zeros((0, 4), np.float32), thin)]
        for shape in dict.fromkeys(pixels.shape for pixels in inputs.values()):
            mine = [index for index, pixels in inputs.items() if pixels.shape == shape]
            size = torch.tensor([images[index].size for index in mine], dtype=torch.float32, device=self._model.device)
            found = self._detect_batch(torch.stack([inputs[index] for index in mine]), size, queries)
            failed = {mine[index]: reason for index, reason in found.failed.items()}
            parts.append(
                Detections(np.array(mine, dtype=np.int64)[found.image], found.phrase, found.score, found.box, failed)
            )
        return _ordered(parts)

    def _detect_batch(
        self,
        pixels: Float[Tensor, "images 3 height width"],
        size: Float[Tensor, "images 2"],
        queries: Queries[tuple[Prompt, ...]],
    ) -> Detections:
        count = len(pixels)
        everywhere = torch.ones(count, *pixels.shape[-2:], dtype=torch.long, device=pixels.device)
        finite = torch.ones(count, dtype=torch.bool, device=pixels.device)
        seen: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        first = 0
        with self._images_given(pixels, everywhere):
            for prompt in queries.encoded:
                self._text.answer = _TextAnswer(prompt.text.expand(count, -1, -1))
                tokens = prompt.tokens.expand(count, -1)
                outputs = self._fusion(pixel_values=pixels, input_ids=tokens, pixel_mask=everywhere, return_dict=True)
                image, phrase, scores, boxes = self._read(outputs, prompt)
                boxes = boxes * size[image].repeat(1, 2)
                finite[image[~(torch.isfinite(scores) & torch.isfinite(boxes).all(dim=1))]] = False
                seen.append((image, phrase + first, scores, boxes))
                first += len(prompt.spans)
        failed = dict.fromkeys((~finite).nonzero().flatten().tolist(), NOT_FINITE)
        if not seen:
            nothing = np.zeros(0, dtype=np.int64)
            return Detections(nothing, nothing, np.zeros(0, np.float32), np.zeros((0, 4), np.float32), failed)
        image, phrase, scores, boxes = (torch.cat(column) for column in zip(*seen, strict=True))
        boxes, any_area = inside(boxes, size[image])
        keep = finite[image] & any_area
        image, phrase, scores, boxes = (column[keep].cpu().numpy() for column in (image, phrase, scores, boxes))
        return Detections(image, phrase, scores, boxes, failed)

    @contextmanager
    def _images_given(
        self, pixels: Float[Tensor, "images 3 height width"], everywhere: Int[Tensor, "images height width"]
    ) -> Generator[None]:
        """While this is open, the model has the images' backbone features; afterwards, come what may, it holds none."""
        self._backbone.answer = self._model.model.backbone(pixels, everywhere)
        try:
            yield
        finally:
            self._backbone.answer = self._text.answer = None

    def _read(self, outputs: Any, prompt: Prompt) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Image, phrase, score and box (fractions of the image) of what is above both thresholds.

        As the library has it, a box scores what its best token scores, be that a full stop.
        """
        probabilities = outputs.logits.float().sigmoid()[..., : len(prompt.tokens)]
        scores = probabilities.amax(dim=-1)
        image, query = ((scores > self.threshold) | torch.isnan(scores)).nonzero(as_tuple=True)
        chosen = probabilities[image, query]
        by_phrase = chosen[:, None, :].masked_fill(~prompt.spans, -1.0).amax(dim=-1)
        best, phrase = by_phrase.max(dim=-1)
        named = (best > self.text_threshold) | torch.isnan(best)
        image, query, phrase = image[named], query[named], phrase[named]
        return image, phrase, scores[image, query], to_corners(outputs.pred_boxes[image, query].float())


def _ordered(parts: Sequence[Detections]) -> Detections:
    """Several parts as one, ordered by image."""
    image, phrase, score, box = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("image", "phrase", "score", "box")
    )
    order = np.argsort(image, kind="stable")
    failed = {index: reason for part in parts for index, reason in part.failed.items()}
    return Detections(image[order], phrase[order], score[order], box[order], failed)
