"""Images in several groups at once: one group for each pair (class, attribute) that a person judged spurious.

A pair has two groups, its class without the attribute and with it. An image belongs to one group of every pair of its
class, or, where presence is only likely, to both with shares that sum to 1; a class without a pair is one group. What
is stored is a few group numbers an image (``slots``), so that memory and time grow with the pairs and not with their
product; within a batch it becomes a small matrix of images by groups, and every term is a product with that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from despur.mitigate.losses import Pairs

NOWHERE = -1
"""A slot that no group fills."""


def memberships(
    groups: Int[Tensor, "*more images slots"],
    shares: Float[Tensor, "*more images slots"] | None,
    count: int,
    like: Tensor,
) -> Float[Tensor, "*more images groups"]:
    """How much each image belongs to each group, in [0, 1].

    Args:
        groups: numbers in [0, count), or ``NOWHERE``.
        shares: of each slot; None: whole.
        count: how many groups there are.
        like: of the type and device that is wanted.
    """
    filled = groups >= 0
    values = filled.to(like.dtype) if shares is None else shares.to(like.dtype) * filled
    # What fills no group is gathered in one more column, which is dropped.
    places = torch.where(filled, groups, count)
    matrix = torch.zeros(*groups.shape[:-1], count + 1, dtype=like.dtype, device=like.device)
    return matrix.scatter_add_(-1, places, values)[..., :count]


def shared_group_pairs(members: Float[Tensor, "*runs images groups"]) -> Pairs:
    """L_vs over several pairs at once: an image is pulled to those that share a group, held apart from all others.

    The mean over (image, group) entries, weighted by share, of the mean over that group's other images. All anchors'
    denominators are the same, so that any number of pairs costs one matrix of weights: [images, groups] @ [groups,
    images]. With one whole group an image it is :func:`~despur.mitigate.losses.same_label_pairs`.
    """
    others = members.sum(-2, keepdim=True) - members
    # A difference of sums leaves a rest where there is nobody else.
    anchored = (others > 1e-6) & (members > 0)
    total = (members * anchored).sum((-2, -1)).clamp(min=1e-12)
    share = torch.where(anchored, members / others.clamp(min=1e-6), 0.0) / total[..., None, None]
    weights = share @ members.mT
    weights.diagonal(dim1=-2, dim2=-1).zero_()
    return Pairs(weights, weights.sum(-1))


def sizes_of(
    groups: Int[Tensor, "images slots"], shares: Float[Tensor, "images slots"] | None, count: int
) -> Float[Tensor, "groups"]:
    """How many images belong to each group, shares added up."""
    return weighted_sums(torch.ones(1, len(groups), device=groups.device), groups, shares, count)[0]


def weighted_sums(
    values: Float[Tensor, "runs images"],
    groups: Int[Tensor, "images slots"],
    shares: Float[Tensor, "images slots"] | None,
    count: int,
) -> Float[Tensor, "runs groups"]:
    """Each group's sum of values, an image's counting by its share; one slot after the other."""
    sums = torch.zeros(len(values), count + 1, dtype=values.dtype, device=values.device)
    places = torch.where(groups >= 0, groups, count)
    for slot in range(groups.shape[1]):
        share = values if shares is None else values * shares[:, slot].to(values.dtype)
        sums.index_add_(1, places[:, slot], share)
    return sums[:, :count]


def unpaired(classes: Iterable[int], count: int) -> list[int]:
    """The classes that no pair is of, in order, of ``count``."""
    return sorted(set(range(count)) - set(classes))


def pair_groups(
    labels: Int[Tensor, "images"], presence: Float[Tensor, "images pairs"], classes: Sequence[int], count: int
) -> tuple[Int[Tensor, "images slots"], Float[Tensor, "images slots"] | None]:
    """Groups and shares of every image: group 2p + 1 is pair p's class with the attribute, 2p without it.

    A class that no pair is of is one group, after all those of pairs: a method that draws or weights by group would
    otherwise never see it, and unlearn it.

    Args:
        presence: how likely each image shows each pair's attribute: 0 or 1 where it is known, in between where not.
        classes: each pair's class.
        count: how many classes there are.

    Returns:
        As many slots as the class with the most pairs needs, twice as many for soft presence; shares are None where
        every presence is 0 or 1.
    """
    of_class = torch.tensor(list(classes), dtype=torch.int64, device=labels.device)
    hard = bool(((presence == 0) | (presence == 1)).all())
    per_pair = 1 if hard else 2
    # A class without a pair needs a slot too.
    most = max(1, int(torch.bincount(of_class, minlength=1).max()) * per_pair)
    groups = torch.full((len(labels), most), NOWHERE, dtype=torch.int64, device=labels.device)
    shares = torch.zeros(len(labels), most, dtype=presence.dtype, device=labels.device)
    used = dict.fromkeys(classes, 0)
    for pair, label in enumerate(classes):
        rows = (labels == label).nonzero().squeeze(-1)
        likely, slot = presence[rows, pair], used[label]
        if hard:
            groups[rows, slot] = 2 * pair + likely.long()
        else:
            groups[rows, slot], groups[rows, slot + 1] = 2 * pair, 2 * pair + 1
            shares[rows, slot], shares[rows, slot + 1] = 1 - likely, likely
        used[label] += per_pair
    for place, label in enumerate(unpaired(classes, count)):
        rows = labels == label
        groups[rows, 0], shares[rows, 0] = 2 * len(classes) + place, 1.0
    return groups, None if hard else shares
