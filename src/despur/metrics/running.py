"""Metrics that grow batch by batch, as torchmetrics has them: ``update``, ``compute``, ``reset``, sums over processes.

They fit where torchmetrics' own do: ``self.log`` of a LightningModule, a ``MetricCollection``, a plain loop.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric

from despur.errors import SettingsError
from despur.metrics.overlap import adjusted_iou, soft_iou

__all__ = ["AdjustedAverageAccuracy", "AdjustedIoU", "WorstGroupAccuracy"]


class _GroupHits(Metric):
    """Counts of right images and of images, by group."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    hits: Tensor
    sizes: Tensor

    def __init__(self, groups: int) -> None:
        super().__init__()
        if groups < 1:
            raise SettingsError(f"there are {groups} groups", now="give at least one")
        self.add_state("hits", torch.zeros(groups, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("sizes", torch.zeros(groups, dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        preds: Float[Tensor, "images classes"] | Int[Tensor, "images"],
        target: Int[Tensor, "images"],
        groups: Int[Tensor, "images"],
    ) -> None:
        """Count a batch.

        Args:
            preds: logits, or the classes predicted.
            target: class of each image.
            groups: group of each image, in [0, groups); -1: in none, so that the image counts nowhere.

        Raises:
            SettingsError: a group lies beyond those that there are.
        """
        chosen = preds.argmax(-1) if preds.ndim == target.ndim + 1 else preds
        inside = groups >= 0
        count = len(self.sizes)
        counted = torch.bincount(groups[inside], minlength=count)
        if len(counted) > count:
            raise SettingsError(f"an image is in group {len(counted) - 1}", now=f"groups are 0 to {count - 1}, or -1")
        # Never in place: a state may come out of Lightning's inference mode.
        self.sizes = self.sizes + counted
        self.hits = self.hits + torch.bincount(groups[inside & (chosen == target)], minlength=count)

    def rates(self) -> Float[Tensor, "groups"]:
        """Accuracy of every group so far, in [0, 1]; NaN for a group without images."""
        return self.hits / self.sizes


class WorstGroupAccuracy(_GroupHits):
    """The lowest accuracy over the groups that have images, in [0, 1]; NaN before any came.

    Args:
        groups: how many groups there are: 2 * classes for one attribute, the group being 2 * label + present.
    """

    def compute(self) -> Float[Tensor, ""]:
        """The worst group's accuracy so far."""
        rates = self.rates()
        filled = rates[~rates.isnan()]
        return filled.amin() if len(filled) else rates.new_tensor(torch.nan)


class AdjustedAverageAccuracy(_GroupHits):
    """Accuracies of the groups weighted by their training sizes, in [0, 1] (METHOD section 4).

    NaN while a group that has training images has none here.

    Args:
        training_sizes: training images of each group.
    """

    weights: Tensor

    def __init__(self, training_sizes: Sequence[int]) -> None:
        super().__init__(len(training_sizes))
        sizes = torch.tensor(training_sizes, dtype=torch.float32)
        if not (sizes >= 0).all() or not sizes.any():
            raise SettingsError(
                f"the training sizes are {list(training_sizes)}", now="give each group's, one above 0 at least"
            )
        self.register_buffer("weights", sizes / sizes.sum(), persistent=False)

    def compute(self) -> Float[Tensor, ""]:
        """The adjusted average so far."""
        weighed = self.weights > 0
        return (self.rates()[weighed] * self.weights[weighed]).sum()


class AdjustedIoU(Metric):
    """Mean AIoU of explanation maps over images (Eqs. 8 and 9), in [0, 1]; NaN before any came."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        maps: Float[Tensor, "images classes height width"],
        masks: Bool[Tensor, "images height width"],
        target: Int[Tensor, "images"],
    ) -> None:
        """Count a batch.

        Args:
            maps: a map of each class, in [0, 1].
            masks: true on the object.
            target: class of each image.
        """
        values = adjusted_iou(soft_iou(maps, masks), target)
        self.total = self.total + values.sum().to(self.total.dtype)
        self.images = self.images + len(values)

    def compute(self) -> Float[Tensor, ""]:
        """The mean so far."""
        return (self.total / self.images).to(torch.float32)
