"""Which images each step of an epoch trains on, drawn for every run of a stack from a generator of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from despur.features.encode import cut
from despur.features.streamed import BLOCK

DRAW_WEIGHTS = "draw_weights"
"""Name in a method's state: how often each training image is to be drawn, in any unit; [images] a run."""

MEMBERS = "members"
"""Name in a method's state: indices of the training images that there are for a run; as many in each run."""

Sampler = Callable[
    [Int[Tensor, "images *slots"], int, torch.Generator, Float[Tensor, "images *slots"] | None], Int[Tensor, "draws"]
]
"""Group of each image, how many to draw, the run's generator, and how much an image belongs to each group (None:
wholly), to indices of images."""


def shuffled(
    groups: Int[Tensor, "images *slots"],
    draws: int,
    generator: torch.Generator,
    shares: Float[Tensor, "images *slots"] | None = None,
) -> Int[Tensor, "draws"]:
    """Every image at most once, in random order."""
    return torch.randperm(groups.shape[0], generator=generator)[:draws]


def group_balanced(
    groups: Int[Tensor, "images *slots"],
    draws: int,
    generator: torch.Generator,
    shares: Float[Tensor, "images *slots"] | None = None,
) -> Int[Tensor, "draws"]:
    """Every draw from a group that is uniformly random among those with images, and uniformly within it, with
    replacement: the sampler of Group DRO (Sagawa et al. 2020). An image of several groups may be drawn for each; where
    it belongs to them in shares, in proportion to these."""
    if groups.ndim == 2:
        images, slots = (groups >= 0).nonzero(as_tuple=True)
        own = None if shares is None else shares[images, slots]
        return images[group_balanced(groups[images, slots], draws, generator, own)]
    if shares is not None:
        return _balanced_by_share(groups, draws, generator, shares.double())
    sizes = torch.bincount(groups)
    # By hand rather than by torch.multinomial, which takes at most 2^24 images.
    order = groups.argsort(stable=True)
    first = sizes.cumsum(0) - sizes
    filled = sizes.nonzero().squeeze(-1)
    group = filled[torch.randint(filled.shape[0], (draws,), generator=generator)]
    within = (torch.rand(draws, generator=generator, dtype=torch.float64) * sizes[group]).long()
    return order[first[group] + within]


def _balanced_by_share(
    groups: Int[Tensor, "images"], draws: int, generator: torch.Generator, shares: Float[Tensor, "images"]
) -> Int[Tensor, "draws"]:
    order = groups.argsort(stable=True)
    edges = torch.cat([shares.new_zeros(1), shares[order].cumsum(0)])
    last = torch.bincount(groups).cumsum(0)
    first = torch.cat([last.new_zeros(1), last[:-1]])
    filled = (edges[last] > edges[first]).nonzero().squeeze(-1)
    group = filled[torch.randint(filled.shape[0], (draws,), generator=generator)]
    within = torch.rand(draws, generator=generator, dtype=torch.float64)
    points = edges[first[group]].lerp(edges[last[group]], within)
    place = torch.searchsorted(edges, points, right=True) - 1
    return order[place.clamp(first[group], last[group] - 1)]


def weighted(weights: Float[Tensor, "images"], draws: int, generator: torch.Generator) -> Int[Tensor, "draws"]:
    """Every draw in proportion to its image's weight, with replacement; an image of weight 0 is never drawn."""
    edges = weights.double().cumsum(0)  # by hand rather than by torch.multinomial, as above
    points = torch.rand(draws, generator=generator, dtype=torch.float64) * edges[-1]
    return torch.searchsorted(edges, points, right=True).clamp_(max=len(edges) - 1)


def windows(count: int, within: int, generator: torch.Generator) -> list[Int[Tensor, "images"]]:
    """Every one of ``count`` images once: blocks of neighbours in random order, as many a window as hold ``within``
    images, and at least one. Order within a window is that of its blocks.
    """
    blocks = torch.arange(count).split(BLOCK)
    order = torch.randperm(len(blocks), generator=generator).tolist()
    return [
        torch.cat([blocks[number] for number in order[span.start : span.stop]])
        for span in cut(len(order), max(1, within // BLOCK))
    ]


@dataclass(frozen=True)
class Epoch:
    """Every index of one epoch, on the device before its first step.

    Attributes:
        rows: index of each image.
        labels, groups: of those images.
        templates: a random template for each image.
    """

    rows: Int[Tensor, "steps runs images"]
    labels: Int[Tensor, "steps runs images"]
    groups: Int[Tensor, "steps runs images *slots"]
    templates: Int[Tensor, "steps runs images"]

    def __len__(self) -> int:
        return self.rows.shape[0]


class Batches:
    """Draws epochs for a stack of runs.

    Args:
        labels, groups: of the training images, on the device that epochs are wanted on.
        batch_size: images a step; fewer where there are not as many. What does not fill a batch is left out.
        templates: how many there are.
        generators: one a run, on the CPU, so that a run draws the same on every device and in every stack.
        members: for each run the images that there are; None: all.
        shares: how much an image belongs to each of its groups; None: wholly.
        within: images that are drawn together, one window of :func:`windows` after the other, each window as many times
            as it has images; None: all at once.
    """

    def __init__(
        self,
        labels: Int[Tensor, "images"],
        groups: Int[Tensor, "images *slots"],
        *,
        batch_size: int,
        templates: int,
        sampler: Sampler,
        generators: Sequence[torch.Generator],
        members: Int[Tensor, "runs members"] | None = None,
        within: int | None = None,
        shares: Float[Tensor, "images slots"] | None = None,
    ) -> None:
        count = labels.shape[0] if members is None else members.shape[1]
        self.images = min(batch_size, count)
        self.steps = count // self.images
        self._members = None if members is None else members.cpu()
        self._labels, self._groups = labels, groups
        self._groups_here = groups.cpu()
        self._shares_here = None if shares is None else shares.cpu()
        self._templates = templates
        self._sampler = sampler
        self._generators = generators
        self._within = within

    def epoch(self, draw_weights: Float[Tensor, "runs images"] | None = None) -> Epoch:
        """The next epoch; advances every run's generator by the same draws whatever the other runs are.

        Args:
            draw_weights: draw in proportion to them, and not by the sampler.
        """
        shape = (self.steps, self.images)
        weights = None if draw_weights is None else draw_weights.cpu()
        rows = [self._rows(run, weights).view(shape) for run in range(len(self._generators))]
        templates = [torch.randint(self._templates, shape, generator=generator) for generator in self._generators]
        device = self._labels.device
        on_device = torch.stack(rows, dim=1).to(device)
        return Epoch(
            rows=on_device,
            labels=self._labels[on_device],
            groups=self._groups[on_device],
            templates=torch.stack(templates, dim=1).to(device),
        )

    def _rows(self, run: int, weights: Float[Tensor, "runs images"] | None) -> Int[Tensor, "draws"]:
        draws, generator = self.steps * self.images, self._generators[run]
        own = None if weights is not None or self._members is None else self._members[run]
        if self._within is None:
            return self._draw(own, None if weights is None else weights[run], draws, generator)
        count = len(self._groups_here) if own is None else len(own)
        drawn: list[Tensor] = []
        for window in windows(count, self._within, generator):
            here = window if own is None else own[window]
            drawn.append(self._draw(here, None if weights is None else weights[run], len(here), generator))
        return torch.cat(drawn)[:draws]

    def _draw(
        self,
        images: Int[Tensor, "images"] | None,
        weights: Float[Tensor, "all"] | None,
        draws: int,
        generator: torch.Generator,
    ) -> Int[Tensor, "draws"]:
        """So many draws from some images; None: from all."""
        if weights is not None:
            drawn = weighted(weights if images is None else weights[images], draws, generator)
        else:
            groups, shares = self._groups_here, self._shares_here
            if images is not None:
                groups, shares = groups[images], None if shares is None else shares[images]
            drawn = self._sampler(groups, draws, generator, shares)
        return drawn if images is None else images[drawn]
