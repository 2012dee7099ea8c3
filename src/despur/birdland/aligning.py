"""Second phase: texts are aligned with the frozen image tower, from captions that carry the shortcut.

This is locked-image tuning (Zhai et al. 2022): the image tower up to its projection stays as the first phase left it,
so that its features are computed once; the text tower, both projections and the temperature learn with CLIP's loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from despur.backbones.heads import MAX_LOG_SCALE
from despur.birdland.captions import CaptionTable
from despur.birdland.fitting import EpochReport, FitSettings, encoder_input, learning_rate_at, make_optimizer
from despur.birdland.models import SmallClip, as_backbone
from despur.birdland.pretraining import DrawnScenes
from despur.progress import Progress, silent

_BATCH = 256


@torch.no_grad()
def frozen_features(
    small: SmallClip, scenes: DrawnScenes, progress: Progress = silent
) -> Float[Tensor, "views scenes d_image"]:
    """Features before the image projection of every whole scene, as it is and mirrored."""
    backbone = as_backbone(small)
    batches = scenes.pixels.split(_BATCH)
    features: list[Tensor] = []
    for pixels in progress(batches, total=len(scenes.pixels), label="image features", unit="scenes", each=_BATCH):
        inputs = encoder_input(pixels, small.preprocessing)
        features.append(torch.stack([backbone.image_features(view) for view in (inputs, inputs.flip(-1))]))
    return torch.cat(features, dim=1)


def _image_projection(small: SmallClip) -> tuple[list[nn.Parameter], Callable[[Tensor], Tensor]]:
    """The image projection's parameters, and what it does to features."""
    visual: Any = small.model.visual
    if small.name == "resnet":
        projection: nn.Linear = visual.attnpool.c_proj
        return list(projection.parameters()), projection
    matrix: nn.Parameter = visual.proj
    return [matrix], lambda features: features @ matrix


def contrastive_loss(
    images: Float[Tensor, "pairs dim"], texts: Float[Tensor, "pairs dim"], inverse_temperature: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """CLIP's loss (Eq. 1) over pairs of unit vectors, each pair's own text the only positive, both ways averaged."""
    logits = inverse_temperature * images @ texts.mT
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.mT, own)) / 2.0


def fit_captions(
    small: SmallClip,
    features: Float[Tensor, "views scenes d_image"],
    captions: CaptionTable,
    templates: Sequence[str],
    settings: FitSettings,
    *,
    after_epoch: Callable[[EpochReport], None] = lambda report: None,
    progress: Progress = silent,
) -> list[EpochReport]:
    """Train the text tower, both projections and the temperature in place; the image tower before them is frozen.

    Args:
        features: of each scene, in one or more views of which an epoch draws one.
        captions: what may be said of each scene.
        templates: a caption is one of these with a phrase in its slot.
        after_epoch: called with each epoch's report.
    """
    model = small.model.eval().requires_grad_(True)
    model.visual.requires_grad_(False)
    parameters, project = _image_projection(small)
    for parameter in parameters:
        parameter.requires_grad_(True)
    tokens: Int[Tensor, "templates phrases context"] = torch.stack(
        [small.tokenizer([template.replace("{}", phrase) for phrase in captions.phrases]) for template in templates]
    )
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = make_optimizer(model, settings)
    views, scenes = features.shape[:2]
    size = min(settings.batch_size, scenes)
    steps_an_epoch = scenes // size
    step, reports = 0, list[EpochReport]()
    for epoch in range(1, settings.epochs + 1):
        order = torch.randperm(scenes, generator=generator)[: steps_an_epoch * size].view(-1, size)
        said, losses, rate = captions.draw(generator), torch.zeros(steps_an_epoch), 0.0
        label = f"captions, epoch {epoch} of {settings.epochs}"
        for index, batch in enumerate(progress(order, total=scenes, label=label, unit="scenes", each=size)):
            rate = learning_rate_at(step, settings.epochs * steps_an_epoch, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            view = torch.randint(views, (size,), generator=generator)
            filled = torch.randint(len(templates), (size,), generator=generator)
            images = F.normalize(project(features[view, batch]), dim=-1)
            texts = F.normalize(model.encode_text(tokens[filled, said[batch]]), dim=-1)
            loss = contrastive_loss(images, texts, model.logit_scale.exp())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0.0, MAX_LOG_SCALE)
            losses[index] = loss.detach()
            step += 1
        reports.append(EpochReport(epoch, float(losses.mean()), rate, float(model.logit_scale.detach().exp())))
        after_epoch(reports[-1])
    return reports
