"""Accuracy of every run of a stack on the validation split, in one product an epoch."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from despur.backbones.heads import Heads, class_embeddings, class_logits
from despur.features.streamed import AT_ONCE, StreamedFeatures
from despur.metrics import group_rates
from despur.mitigate.membership import sizes_of, weighted_sums
from despur.mitigate.study import Examples, Study

IMAGES_AT_ONCE = 256
"""Feature maps that go through the attention pools together: 50 positions of 2,048 channels each, three times a run."""


NONLINEAR = {"adapter.in.weight", "context.weight"}
"""Heads under which a class's score is not a linear function of the features."""


def predicted_classes(
    heads: Heads, features: Tensor | StreamedFeatures, prompts: Float[Tensor, "templates classes d_text"]
) -> Int[Tensor, "runs images"]:
    """The class with the highest logit, for a stack of runs over the same images.

    An image's norm and the temperature scale all its logits alike and change no maximum. So the class vectors are taken
    back through the image projection, and the images are multiplied once by [runs * classes] vectors of their own size.
    """
    if len(features) > AT_ONCE:
        # In the same parts from memory and from disk: a product's last bits hang on its shape.
        parts = features.parts() if isinstance(features, StreamedFeatures) else features.split(AT_ONCE)
        return torch.cat([predicted_classes(heads, part, prompts) for part in parts], dim=-1)
    if isinstance(features, StreamedFeatures):
        [features] = features.parts()
    if "probe.weight" in heads:
        weight, bias = heads["probe.weight"], heads["probe.bias"]
    elif "image.weight" in heads and not NONLINEAR & heads.keys():
        texts = class_embeddings(heads, prompts)
        weight = texts @ heads["image.weight"]
        bias = None if "image.bias" not in heads else (texts @ heads["image.bias"].unsqueeze(-1)).squeeze(-1)
    else:
        parts = features.split(IMAGES_AT_ONCE)
        return torch.cat([class_logits(heads, part, prompts).argmax(-1) for part in parts], dim=-1)
    logits = features @ weight.flatten(0, 1).mT
    if bias is not None:
        logits += bias.flatten()
    return logits.unflatten(-1, weight.shape[:2]).argmax(-1).mT


def validation_accuracies(
    heads: Heads, study: Study, examples: Examples
) -> tuple[Float[Tensor, "runs groups"], Float[Tensor, "runs"]]:
    """Each group's accuracy (NaN for an empty group) and the mean over images."""
    correct = predicted_classes(heads, examples.features, study.class_prompts) == examples.labels
    if examples.groups.ndim == 1:
        return group_rates(correct, examples.groups, study.groups), correct.float().mean(-1)
    sizes = sizes_of(examples.groups, examples.shares, study.groups)
    hits = weighted_sums(correct.float(), examples.groups, examples.shares, study.groups)
    return torch.where(sizes > 0, hits / sizes, torch.nan), correct.float().mean(-1)


def worst_group(rates: Float[Tensor, "runs groups"]) -> Float[Tensor, "runs"]:
    """The lowest accuracy over groups that are not empty."""
    return rates.nan_to_num(nan=torch.inf).amin(-1)
