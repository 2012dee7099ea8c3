"""``similarity="cosine"``: the terms that the authors' released code computes instead of CS (METHOD section 2).

They are linear in the cosines: no temperature and no log-sum-exp. Kept so that released numbers can be run again.

The trap
--------
The released code stacks prompt embeddings template-major, so that row t·C + c is class c's prompt, but lays their
labels out class-major: row r gets class r // T. It then reshapes the loss of each prompt to [templates, classes],
averages over *classes*, and indexes the outcome with the images' class along the *template* axis. With two classes and
80 templates its language terms therefore pull together templates 0-39 of both classes and push them away from templates
40-79, and only templates 0 and 1 reach the loss. ``released_indexing=True`` computes that; without it, what was meant:
rows labelled as they are stacked, losses averaged over templates and indexed by class.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from despur.mitigate.losses import prompt_labels


def label_cosine_losses(
    anchors: Float[Tensor, "*runs anchors dim"],
    others: Float[Tensor, "*runs others dim"],
    anchor_labels: Int[Tensor, "*runs anchors"],
    other_labels: Int[Tensor, "*runs others"],
    *,
    absolute: bool = False,
) -> Float[Tensor, "*runs anchors"]:
    """Each anchor's loss: minus the mean cosine with its own label plus the mean cosine with other labels.

    Both means are over *all* others, an anchor among them if it is there.

    Args:
        absolute: take the absolute value of the cosines with other labels, so that they are drawn to 0, not to -1.

    Returns:
        In [-1, 1].
    """
    cosine = anchors @ others.mT
    same = anchor_labels.unsqueeze(-1) == other_labels.unsqueeze(-2)
    return torch.where(same, -cosine, cosine.abs() if absolute else cosine).mean(-1)


def label_cosine_loss(
    members: Float[Tensor, "*runs members dim"], labels: Int[Tensor, "*runs members"], *, absolute: bool = False
) -> Float[Tensor, "*runs"]:
    """The image terms: classes for vc, groups for vs."""
    return label_cosine_losses(members, members, labels, labels, absolute=absolute).mean(-1)


def _of_images(
    losses: Float[Tensor, "*runs templates classes"], labels: Int[Tensor, "*runs images"], released_indexing: bool
) -> Float[Tensor, "*runs"]:
    """The mean over a batch's images of the loss that each image's class is taken to have."""
    by_class = losses.mean(-1 if released_indexing else -2)
    return by_class.expand(*labels.shape[:-1], -1).gather(-1, labels).mean(-1)


def language_cosine_loss(
    prompts: Float[Tensor, "*runs templates classes dim"],
    labels: Int[Tensor, "*runs images"],
    *,
    absolute: bool = False,
    released_indexing: bool = False,
) -> Float[Tensor, "*runs"]:
    """The lc term: prompts of a class together, prompts of different classes apart.

    Args:
        labels: class of each image of the batch, which weights the classes' losses.
        released_indexing: what was run instead of what was meant; needs at least as many templates as classes.
    """
    templates, classes = prompts.shape[-3], prompts.shape[-2]
    rows = prompts.flatten(-3, -2)
    of_row = prompt_labels(prompts)
    if released_indexing:
        of_row = of_row.sort().values  # class-major: row r gets class r // templates
    losses = label_cosine_losses(rows, rows, of_row, of_row, absolute=absolute)
    return _of_images(losses.unflatten(-1, (templates, classes)), labels, released_indexing)


def orthogonality_loss(
    prompts: Float[Tensor, "*runs templates classes dim"],
    phrases: Float[Tensor, "*runs phrase_templates phrases dim"],
    labels: Int[Tensor, "*runs images"],
    *,
    released_indexing: bool = False,
) -> Float[Tensor, "*runs"]:
    """The ls term: mean absolute cosine between a class's prompts and those of the spurious phrases; in [0, 1]."""
    cosine = prompts.flatten(-3, -2) @ phrases.flatten(-3, -2).mT
    losses = cosine.abs().mean(-1).unflatten(-1, prompts.shape[-3:-1])
    return _of_images(losses, labels, released_indexing)
