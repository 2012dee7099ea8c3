"""First phase: the image tower learns to say what it sees and where, from exact tags; place is independent of bird."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from despur.birdland.birds import BIRDS
from despur.birdland.fitting import (
    EpochReport,
    FitSettings,
    bfloat16_is_fast,
    encoder_input,
    framed,
    input_side,
    learning_rate_at,
    make_optimizer,
)
from despur.birdland.models import SmallClip
from despur.birdland.places import PLACES
from despur.birdland.pretraining import NAMES, DrawnScenes
from despur.birdland.studies import OBJECT_CLASSES
from despur.progress import Progress, silent

_SUBJECT_WEIGHT = 4.0
# The part of a cell that a thing must fill to be asked for there.
_SEEN = 0.04
# Names before this index are subjects of a study.
_SUBJECTS = len(BIRDS) + len(OBJECT_CLASSES)


def cell_tags(owners: UInt8[Tensor, "images height width"], side: int) -> Float[Tensor, "images names side side"]:
    """Which things each cell of a grid shows: 1 where one fills at least a twenty-fifth of the cell."""
    images, height, width = owners.shape
    rows = torch.arange(height) * side // height
    columns = torch.arange(width) * side // width
    cells = rows[:, None] * side + columns[None, :]
    count = len(NAMES) + 1
    place = torch.arange(images)[:, None, None] * (side * side) + cells
    filled = torch.bincount((place * count + owners).flatten(), minlength=images * side * side * count)
    share = filled.view(images, side * side, count)[..., 1:] / (height * width / side**2)
    return (share >= _SEEN).float().mT.unflatten(-1, (side, side))


class Tagger(nn.Module):
    """Two linear layers on an image tower: tags of the whole picture and of each cell of the last map."""

    def __init__(self, small: SmallClip, map_width: int, embed_dim: int) -> None:
        super().__init__()
        self.visual = small.model.visual
        self.whole = nn.Linear(embed_dim, len(NAMES) + len(PLACES))
        self.cells = nn.Conv2d(map_width, len(NAMES), 1)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Tags of the whole scene and of each of its places."""
        seen = self.visual.forward_intermediates(inputs, indices=1, normalize_intermediates=True)
        return self.whole(seen["image_features"]), self.cells(seen["image_intermediates"][-1])


def _place_tags(scenes: DrawnScenes) -> Float[Tensor, "scenes places"]:
    return torch.tensor([[float(place in shown.context) for place in PLACES] for shown in scenes.shown])


def _weighted(logits: Tensor, tags: Tensor) -> Tensor:
    """Binary cross-entropy over names (second axis), the subjects' weighing more, summed over names."""
    weights = torch.ones(logits.shape[1])
    weights[:_SUBJECTS] = _SUBJECT_WEIGHT
    losses = F.binary_cross_entropy_with_logits(logits, tags, reduction="none")
    return (losses.movedim(1, -1) * weights).sum(-1).mean()


def fit_tags(
    small: SmallClip,
    scenes: DrawnScenes,
    settings: FitSettings,
    *,
    after_epoch: Callable[[EpochReport], None] = lambda report: None,
    progress: Progress = silent,
) -> list[EpochReport]:
    """Train the image tower in place on exact tags; the two linear layers that read it are thrown away.

    Args:
        scenes: what is shown, with what every pixel belongs to.
        after_epoch: called with each epoch's report, the model in evaluation mode.
    """
    visual = small.model.visual.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(settings.seed)
        size = input_side(small.preprocessing)
        seen: Any = visual.eval().forward_intermediates(torch.zeros(1, 3, size, size), indices=1)
        last = seen["image_intermediates"][-1]
        tagger = Tagger(small, last.shape[1], seen["image_features"].shape[1])
    side = last.shape[-1]
    optimizer = make_optimizer(tagger, settings)
    layered = torch.cat([scenes.pixels, scenes.owners.unsqueeze(1)], dim=1)
    places = _place_tags(scenes)
    batch_size = min(settings.batch_size, len(layered))
    steps_an_epoch = len(layered) // batch_size
    step, reports = 0, list[EpochReport]()
    for epoch in range(1, settings.epochs + 1):
        tagger.train()
        order = torch.randperm(len(layered), generator=generator)[: steps_an_epoch * batch_size].view(-1, batch_size)
        losses, rate = torch.zeros(steps_an_epoch), 0.0
        label = f"tags, epoch {epoch} of {settings.epochs}"
        for index, batch in enumerate(progress(order, total=len(layered), label=label, unit="scenes", each=batch_size)):
            rate = learning_rate_at(step, settings.epochs * steps_an_epoch, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            shown = framed(layered[batch], scenes.boxes[batch], settings, generator)
            cells = cell_tags(shown[:, 3], side)
            whole = torch.cat([(cells.amax((-1, -2))), places[batch]], dim=1)
            # The CPU's fused attention takes half of a step in its backward pass; plain products take a tenth.
            with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_is_fast()):
                said, said_where = tagger(encoder_input(shown[:, :3], small.preprocessing))
            loss = _weighted(said.float(), whole) + _weighted(said_where.float(), cells)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(tagger.parameters(), 1.0)
            optimizer.step()
            losses[index] = loss.detach()
            step += 1
        tagger.eval()
        reports.append(EpochReport(epoch, float(losses.mean()), rate, float(small.model.logit_scale.detach().exp())))
        after_epoch(reports[-1])
    return reports
