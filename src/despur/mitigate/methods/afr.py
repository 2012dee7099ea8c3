"""Automatic feature reweighting (Qiu, Potapczynski, Izmailov and Wilson 2023, ICML).

A last layer is fitted by ERM to four fifths of the training images. On the fifth that it has not seen, an image of
class y weighs exp(-γ p̂) / n_y, p̂ being the probability that this layer gives to the image's class; weights sum to
1. A second layer minimises the weighted cross-entropy plus λ times its squared distance from the first, by full-batch
gradient descent. No group label is read, except by the selection on validation.

The encoder is frozen, so ERM is logistic regression on features, solved to its optimum under the first stage's weight
decay of 1e-4. γ, λ (the weight of the term ``anchor``), the rate and the epochs are those of their Waterbirds
command.
"""

from __future__ import annotations

import torch
from torch import Tensor

from despur.backbones.heads import Heads
from despur.errors import TrainingError
from despur.mitigate.batch import Batch
from despur.mitigate.batches import MEMBERS
from despur.mitigate.logistic import fit_logistic, fold_standardisation
from despur.mitigate.methods.method import Method, Option, Start
from despur.mitigate.methods.probe import probe_losses, probe_only, with_probe
from despur.mitigate.methods.requirements import finite_vectors
from despur.mitigate.settings import TrainSettings
from despur.mitigate.study import Study

GAMMA = "gamma"
IMAGE_WEIGHTS = "image_weights"
IMAGES = "images"
HELD_OUT = 0.2
FIRST_DECAY = 1e-4
FIRST_TOLERANCE = 1e-4
"""Of the first layer's weights, relative to the largest: probabilities are then known to some thousandths."""

WHOLE = 2**40
"""A batch of all images."""


def afr_weights(probabilities: Tensor, labels: Tensor, gamma: float, classes: int) -> Tensor:
    """exp(-γ p̂) / n_y for every image, over their sum: [images].

    Args:
        probabilities: what the first model gives to each image's own class.
    """
    sizes = torch.bincount(labels, minlength=classes)
    # In logs and from the lowest on: with a large γ each by itself may be too small to hold, and the sum too coarse.
    above = probabilities - probabilities.min()
    return (-gamma * above - sizes[labels].to(probabilities.dtype).log()).softmax(-1)


def _split(start: Start) -> tuple[Tensor, Tensor]:
    """Indices for the first layer and for the second: a permutation that only the seed decides."""
    count = len(start.study.train)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(start.generator.initial_seed()))
    held_out = max(1, round(HELD_OUT * count))
    device = start.study.train.labels.device
    return order[held_out:].to(device), order[:held_out].to(device)


def _first_layer(start: Start) -> dict[str, Tensor]:
    # It hangs on the split alone: runs that differ in settings share it.
    return start.study.once("afr", start.generator.initial_seed(), lambda: _solve_first(start))


def _solve_first(start: Start) -> dict[str, Tensor]:
    study = start.study
    features = finite_vectors(study, "afr")
    rows, _ = _split(start)
    deviation, mean = torch.std_mean(features[rows], dim=0, correction=0)
    # One scale for all features keeps the decay's meaning and makes the solver quick.
    scale = deviation.square().mean().sqrt().clamp(min=1e-12)
    weight, bias = fit_logistic(
        ((features[rows] - mean) / scale).unsqueeze(0),
        study.train.labels[rows].unsqueeze(0),
        len(study.classes),
        l2=FIRST_DECAY,
        tolerance=FIRST_TOLERANCE,
    )
    return with_probe(study, *fold_standardisation(weight[0], bias[0], mean, scale.expand_as(mean)))


def _second_images(start: Start, heads: Heads) -> dict[str, Tensor]:
    study = start.study
    _, rows = _split(start)
    logits = study.train.take(rows) @ heads["probe.weight"].mT + heads["probe.bias"]
    labels = study.train.labels[rows]
    own = logits.softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    weights = logits.new_zeros(len(study.train))
    weights[rows] = afr_weights(own, labels, start.option(GAMMA), len(study.classes))
    return {
        MEMBERS: rows,
        IMAGE_WEIGHTS: weights,
        IMAGES: weights.new_tensor(len(rows)),
        "first.weight": heads["probe.weight"].clone(),
        "first.bias": heads["probe.bias"].clone(),
    }


def _weighted(batch: Batch) -> Tensor:
    weights = batch.state[IMAGE_WEIGHTS].gather(-1, batch.rows)
    return (weights * probe_losses(batch)).mean(-1) * batch.state[IMAGES]


def _anchor(batch: Batch) -> Tensor:
    weight = (batch.heads["probe.weight"] - batch.state["first.weight"]).square().sum((-2, -1))
    return weight + (batch.heads["probe.bias"] - batch.state["first.bias"]).square().sum(-1)


def _needs_images(study: Study) -> None:
    """Every class must be there twice at the least.

    Raises:
        TrainingError: one is not.
    """
    few = torch.nonzero(torch.bincount(study.train.labels, minlength=len(study.classes)) < 2).flatten().tolist()
    if few:
        raise TrainingError(
            f"fewer than two training images show {study.classes[few[0]]}",
            where="the training split",
            now="add such images, or leave the class out",
        )


AFR = Method(
    name="afr",
    title="AFR",
    terms=lambda settings: {"reweighted": _weighted, "anchor": _anchor},
    settings=TrainSettings(
        learning_rate=0.02,
        weight_decay=0.0,
        momentum=0.0,
        batch_size=WHOLE,
        epochs=500,
        weights={"anchor": 0.2},
    ),
    options={GAMMA: Option(14.0, 1.0, 20.0)},
    heads=_first_layer,
    trained=probe_only,
    state=_second_images,
    check=_needs_images,
)
