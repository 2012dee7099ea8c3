"""Group DRO (Sagawa et al. 2020): the groups' losses under weights that grow with the loss."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from despur.backbones.heads import Heads
from despur.mitigate.batch import Batch
from despur.mitigate.batches import group_balanced
from despur.mitigate.methods.erm import cross_entropies
from despur.mitigate.methods.method import Method, Option, Start
from despur.mitigate.methods.requirements import needs_every_group

WEIGHTS, STEP = "group_weights", "group_step"


def group_means(
    losses: Float[Tensor, "runs images"], members: Float[Tensor, "runs images groups"]
) -> Float[Tensor, "runs groups"]:
    """Mean loss of each group in the batch; 0 for a group that is not in it, as in Sagawa et al.'s code.

    Args:
        members: how much each image belongs to each group.
    """
    sizes = members.sum(-2)
    sums = (losses.unsqueeze(-2) @ members).squeeze(-2)
    return sums / torch.where(sizes > 0, sizes, 1.0)


def exponentiated(
    weights: Float[Tensor, "runs groups"], losses: Float[Tensor, "runs groups"], step: float | Tensor
) -> Float[Tensor, "runs groups"]:
    """Algorithm 1's update: each weight times exp(step · loss), renormalised; in logs, so that no exp overflows.

    Args:
        step: one for all runs, or [runs, 1].
    """
    return (weights.log() + step * losses).softmax(-1)


def _uniform(start: Start, heads: Heads) -> dict[str, Tensor]:
    count, like = start.study.groups, start.study.class_prompts
    return {WEIGHTS: like.new_full((count,), 1.0 / count), STEP: like.new_tensor(start.option(STEP))}


def _group_dro(batch: Batch) -> Tensor:
    losses = group_means(cross_entropies(batch.class_logits, batch.labels), batch.members)
    with torch.no_grad():
        weights = batch.state[WEIGHTS]
        weights.copy_(exponentiated(weights, losses, batch.state[STEP].unsqueeze(-1)))
    return (losses * weights).sum(-1)


GROUP_DRO = Method(
    name="group-dro",
    title="Group DRO",
    terms=lambda settings: {"group_dro": _group_dro},
    options={STEP: Option(0.01, 1e-3, 0.1)},
    sampler=group_balanced,
    state=_uniform,
    check=needs_every_group,
    note="given the group labels",
)
"""On zero-shot logits; batches are group-balanced, the step size of the weights (``group_step``) is the paper's."""
