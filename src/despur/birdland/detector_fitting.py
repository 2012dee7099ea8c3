"""Training of the small OWL-ViT: the loss at each place of its grid, and a loop that goes on where it was stopped."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from open_clip.transform import PreprocessCfg
from pydantic import Field
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torchvision.ops import generalized_box_iou_loss
from transformers import OwlViTForObjectDetection

from despur.birdland.canvas import SIDE
from despur.birdland.detector_model import DETECTED, PATCH, SmallDetector
from despur.birdland.detector_targets import Targets, draw_windows, make_targets, thing_boxes
from despur.birdland.fitting import (
    FitSettings,
    bfloat16_is_fast,
    encoder_input,
    learning_rate_at,
    make_optimizer,
    mirrored,
    shifted,
)
from despur.birdland.pretraining import NAMES, DrawnScenes
from despur.birdland.tokens import CONTEXT_LENGTH
from despur.detect.boxes import to_corners
from despur.detect.owl import TEMPLATE
from despur.errors import ModelError
from despur.progress import Progress, silent
from despur.workspace import write_whole

GRID = SIDE // PATCH
VALUES = tuple(NAMES.index(name) + 1 for name in DETECTED)
_ALPHA, _GAMMA = 0.25, 2.0
_BOX, _OVERLAP = 5.0, 2.0


class ViewSettings(FitSettings):
    """One part of the training.

    Attributes:
        reach: the middle part of a box in which places name the thing; 0: the one place under its centre.
        negatives: phrases of other things that are offered beside the right ones, each step others.
    """

    reach: float = Field(default=0.5, ge=0.0, le=1.0)
    negatives: int = Field(default=47, ge=0)

    @property
    def window(self) -> int:
        """Places to a side of what is shown."""
        return GRID if self.close_up is None else min(max(round(self.close_up / PATCH), 1), GRID)


def focal_loss(
    logits: Float[Tensor, "images places phrases"],
    positive: Bool[Tensor, "images places phrases"],
    ignored: Bool[Tensor, "images places phrases"],
) -> Float[Tensor, ""]:
    """Focal loss (Lin et al. 2017, α 0.25, γ 2), summed, over the number of positives."""
    target = positive.float()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    missed = torch.where(positive, 1.0 - logits.sigmoid(), logits.sigmoid())
    weight = torch.where(positive, _ALPHA, 1.0 - _ALPHA) * missed**_GAMMA
    return (weight * entropy * ~ignored).sum() / target.sum().clamp(min=1.0)


def box_loss(raw: Float[Tensor, "images places 4"], targets: Targets) -> Float[Tensor, ""]:
    """L1 and generalised IoU at every positive place, in DETR's proportion, over the number of positives.

    Args:
        raw: centre and size as parts of the scene's side.
    """
    image, place, name = targets.positive.nonzero(as_tuple=True)
    said, true = to_corners(raw[image, place]), targets.boxes[image, name]
    absolute = (said - true).abs().sum()
    overlap: Tensor = generalized_box_iou_loss(said, true, reduction="sum")
    return (_BOX * absolute + _OVERLAP * overlap) / max(len(image), 1)


class Phrasebook:
    """Token rows of the right phrases, and of many others to draw from.

    Args:
        others: phrases that no scene shows.
    """

    def __init__(self, small: SmallDetector, others: Sequence[str]) -> None:
        texts = [TEMPLATE.format(phrase) for phrase in (*DETECTED, *others)]
        tokenizer: Any = small.tokenizer
        rows = tokenizer(texts, padding="max_length", max_length=CONTEXT_LENGTH, truncation=True, return_tensors="pt")
        self._rows: Int[Tensor, "phrases context"] = rows["input_ids"]
        self._lengths: Int[Tensor, "phrases"] = rows["attention_mask"].sum(-1)

    def draw(self, negatives: int, generator: torch.Generator) -> Int[Tensor, "phrases tokens"]:
        """Tokens of the right phrases, then of some others; what is padding in every row is cut off."""
        others = torch.randperm(len(self._rows) - len(DETECTED), generator=generator)[:negatives] + len(DETECTED)
        chosen = torch.cat([torch.arange(len(DETECTED)), others])
        return self._rows[chosen, : int(self._lengths[chosen].max())]


def forward_windows(
    model: OwlViTForObjectDetection,
    inputs: Float[Tensor, "images 3 side side"],
    places: Int[Tensor, "images places"],
    tokens: Int[Tensor, "phrases tokens"],
) -> tuple[Float[Tensor, "images places phrases"], Float[Tensor, "images places 4"]]:
    """The model's own forward on some places of the grid only, each with its own position: logits and raw boxes.

    With all places in order this is the library's forward. Fewer places are seen as if the rest were not there, at a
    fraction of the cost.
    """
    owl: Any = model
    vision: Any = owl.owlvit.vision_model
    embedded = vision.embeddings(inputs)
    index = torch.cat([torch.zeros_like(places[:, :1]), places + 1], dim=1)
    embedded = embedded.gather(1, index.unsqueeze(-1).expand(-1, -1, embedded.shape[-1]))
    seen = vision.encoder(inputs_embeds=vision.pre_layernorm(embedded)).last_hidden_state
    seen = vision.post_layernorm(seen)
    features = owl.layer_norm(seen[:, 1:] * seen[:, :1])
    pooled = owl.owlvit.text_model(input_ids=tokens).pooler_output
    queries = F.normalize(owl.owlvit.text_projection(pooled), dim=-1)
    logits, _ = owl.class_head(features, queries, None)
    boxes = torch.sigmoid((owl.box_head(features) + owl.box_bias[places]).float())
    return logits.float(), boxes


def fit_detector(
    small: SmallDetector,
    scenes: DrawnScenes,
    views: Sequence[ViewSettings],
    others: Sequence[str],
    *,
    checkpoint: Path | None = None,
    state: str = "",
    say: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> float:
    """Train a detector in place, view after view.

    Args:
        others: phrases that no scene shows.
        checkpoint: file that holds where the training stands after every epoch; where it is there already, the training
            goes on from it.
        state: what the training follows from; a checkpoint of another state is refused.

    Returns:
        Seconds of training, those before a checkpoint included.

    Raises:
        ModelError: the checkpoint is damaged, or belongs to another training.
    """
    phrasebook = Phrasebook(small, others)
    layered = torch.cat([scenes.pixels, scenes.owners.unsqueeze(1)], dim=1)
    saved = _saved(checkpoint, state)
    if saved is not None:
        small.model.load_state_dict(saved["model"])
    done, before = 0 if saved is None else saved["epochs"], 0
    total, spent = sum(view.epochs for view in views), 0.0 if saved is None else float(saved["seconds"])
    started = time.monotonic() - spent
    for number, view in enumerate(views):
        optimizer = make_optimizer(small.model, view)
        generator = torch.Generator().manual_seed(1000 * view.seed + number)
        if saved is not None and before < done < before + view.epochs:
            optimizer.load_state_dict(saved["optimizer"])
            generator.set_state(saved["generator"])
        for epoch in range(max(done - before, 0), view.epochs):
            label = f"epoch {before + epoch + 1} of {total}"
            losses = _epoch(small, layered, view, epoch, phrasebook, optimizer, generator, label, progress)
            say(f"  {label}: loss {losses[0]:.3f} + {losses[1]:.3f}, {time.monotonic() - started:.0f} s")
            if checkpoint is not None:
                _save(checkpoint, small, optimizer, generator, before + epoch + 1, time.monotonic() - started, state)
        before += view.epochs
    small.model.eval()
    return time.monotonic() - started


def _epoch(
    small: SmallDetector,
    layered: UInt8[Tensor, "scenes 4 side side"],
    view: ViewSettings,
    epoch: int,
    phrasebook: Phrasebook,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    label: str,
    progress: Progress,
) -> tuple[float, float]:
    """One pass over the scenes; the mean losses of phrases and of boxes."""
    batch_size = min(view.batch_size, len(layered))
    steps = len(layered) // batch_size
    order = torch.randperm(len(layered), generator=generator)[: steps * batch_size].view(-1, batch_size)
    processor: Any = small.image_processor
    preprocessing = PreprocessCfg(size=SIDE, mean=tuple(processor.image_mean), std=tuple(processor.image_std))
    small.model.train()
    losses = torch.zeros(2)
    walk = progress(order, total=len(layered), label=label, unit="scenes", each=batch_size)
    for index, batch in enumerate(walk):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(epoch * steps + index, view.epochs * steps, view)
        shown = mirrored(shifted(layered[batch], view.shift, generator), generator)
        boxes, seen = thing_boxes(shown[:, 3], VALUES)
        corners = draw_windows(boxes, seen, GRID, view.window, PATCH, generator)
        targets = make_targets(boxes, seen, corners, grid=GRID, window=view.window, patch=PATCH, reach=view.reach)
        tokens = phrasebook.draw(view.negatives, generator)
        # The CPU's fused attention takes half of a step in its backward pass; plain products take a tenth.
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_is_fast()):
            logits, raw = forward_windows(
                small.model, encoder_input(shown[:, :3], preprocessing), targets.places, tokens
            )
        more = (0, logits.shape[-1] - len(DETECTED))
        named = focal_loss(logits, F.pad(targets.positive, more), F.pad(targets.ignored, more))
        placed = box_loss(raw, targets)
        optimizer.zero_grad(set_to_none=True)
        (named + placed).backward()
        nn.utils.clip_grad_norm_(small.model.parameters(), 1.0)
        optimizer.step()
        losses += torch.stack([named.detach(), placed.detach()])
    named_mean, placed_mean = (losses / steps).tolist()
    return named_mean, placed_mean


def _save(
    checkpoint: Path,
    small: SmallDetector,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    epochs: int,
    seconds: float,
    state: str,
) -> None:
    held = {
        "state": state,
        "epochs": epochs,
        "seconds": seconds,
        "model": small.model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
    }
    with write_whole(checkpoint) as temporary:
        torch.save(held, temporary)


def _saved(checkpoint: Path | None, state: str) -> dict[str, Any] | None:
    """What a checkpoint holds; None where there is none."""
    if checkpoint is None or not checkpoint.is_file():
        return None
    now = "name another file, or delete it to begin again"
    try:
        held: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError("the checkpoint is damaged", where=checkpoint, now=now) from error
    if held.get("state") != state:
        raise ModelError("the checkpoint belongs to another training", where=checkpoint, now=now)
    return held
