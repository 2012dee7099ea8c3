"""The contrastive losses of the paper, Eq. 1 to 5, as pure functions of unit embeddings and 1/τ.

Every function accepts leading *runs* dimensions and returns one value a run. All terms but the CLIP loss are one
construct, CS: which pairs are pulled together and which are held apart is all that differs, so that is a value of its
own (:class:`Pairs`), made once where it does not change between steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from despur.mitigate.kernels import mean_log_share, self_similarity

Duplicates = Literal["negatives", "positives"]


@dataclass(frozen=True)
class Pairs:
    """Whom each anchor is pulled towards; it is held apart from all others that the similarity does not exclude.

    Attributes:
        weights: a positive's share in the mean over anchors of the mean over positives: 1 / (|P(i)| · anchors that
            have a positive); 0 for every other pair. Sums to 1, or to 0 where no anchor has a positive.
        anchors: the sum over each anchor's positives: 1 / anchors that have a positive, or 0.
    """

    weights: Float[Tensor, "*runs anchors others"]
    anchors: Float[Tensor, "*runs anchors"]


def pairs(positives: Bool[Tensor, "*runs anchors others"], dtype: torch.dtype = torch.float32) -> Pairs:
    """The pairs of the CS construct from P(i), one row an anchor; ``dtype`` is that of the weights."""
    counts = positives.sum(-1)
    anchored = counts > 0
    anchors = anchored.to(dtype) / anchored.sum(-1, keepdim=True).clamp(min=1)
    return Pairs(positives * (anchors / counts.clamp(min=1)).unsqueeze(-1), anchors)


def same_label_pairs(labels: Int[Tensor, "*runs members"], dtype: torch.dtype = torch.float32) -> Pairs:
    """One set against itself: positives are the other members of the same label, negatives those of another label."""
    same = labels.unsqueeze(-1) == labels.unsqueeze(-2)
    same.diagonal(dim1=-2, dim2=-1).fill_(False)
    return pairs(same, dtype)


def similarities(
    anchors: Float[Tensor, "*runs anchors dim"],
    others: Float[Tensor, "*runs others dim"],
    inverse_temperature: Float[Tensor, "*runs"] | float,
) -> Float[Tensor, "*runs anchors others"]:
    """Inner products of unit embeddings over τ."""
    return (anchors @ others.mT) * _scale(inverse_temperature, anchors)[..., None, None]


def _scale(inverse_temperature: Float[Tensor, "*runs"] | float, like: Tensor) -> Float[Tensor, "*runs"]:
    """A number in place of a tensor is a temperature that is not trained."""
    return inverse_temperature if isinstance(inverse_temperature, Tensor) else like.new_tensor(inverse_temperature)


def _full_precision(similarity: Tensor) -> Tensor:
    """Float16 and bfloat16 to float32: a log-sum-exp of values up to 1/τ = 100 keeps no digits in half precision."""
    return similarity.float() if similarity.dtype in (torch.float16, torch.bfloat16) else similarity


def contrast(similarity: Float[Tensor, "*runs anchors others"], pairs: Pairs) -> Float[Tensor, "*runs"]:
    """CS over pairs already made: minus the mean over anchors and positives of the positive's log share.

    The share is of the sum over all others; one that is neither positive nor negative holds the type's lowest
    number, as :func:`~despur.mitigate.kernels.self_similarity` gives it to each member with itself.
    """
    return mean_log_share(_full_precision(similarity), pairs.weights, pairs.anchors)


def cross_group_similarity(
    similarity: Float[Tensor, "*runs anchors others"],
    positives: Bool[Tensor, "*runs anchors others"],
    negatives: Bool[Tensor, "*runs anchors others"],
) -> Float[Tensor, "*runs"]:
    """CS, the cross-group representation similarity of Section 3.

    For anchor i with positives P(i) and negatives Q(i), the mean over anchors of
    ``-mean over p in P(i) of log( exp(s_ip) / (sum over P(i) of exp(s) + sum over Q(i) of exp(s)) )``.

    Args:
        similarity: inner products of unit embeddings over τ, as :func:`similarities` gives them.
        positives, negatives: P and Q. An anchor with no positive contributes nothing and is not counted in the mean.

    Returns:
        One value a run, at least 0, float32 or wider; 0 where no anchor has a positive.
    """
    logits = _full_precision(similarity)
    compared = logits.masked_fill(~(positives | negatives), torch.finfo(logits.dtype).min)
    return contrast(compared, pairs(positives, logits.dtype))


def _within(
    members: Float[Tensor, "*runs members dim"],
    labels: Int[Tensor, "*runs members"],
    inverse_temperature: Float[Tensor, "*runs"] | float,
) -> Float[Tensor, "*runs"]:
    similarity = _full_precision(self_similarity(members, _scale(inverse_temperature, members)))
    return contrast(similarity, same_label_pairs(labels, similarity.dtype))


def contrastive_image_loss(
    images: Float[Tensor, "*runs images dim"],
    labels: Int[Tensor, "*runs images"],
    inverse_temperature: Float[Tensor, "*runs"] | float,
) -> Float[Tensor, "*runs"]:
    """L_vc, Eq. 2: images of a class together, images of different classes apart."""
    return _within(images, labels, inverse_temperature)


def contrastive_language_loss(
    prompts: Float[Tensor, "*runs templates classes dim"], inverse_temperature: Float[Tensor, "*runs"] | float
) -> Float[Tensor, "*runs"]:
    """L_lc, Eq. 3: a class's prompts together over all templates, prompts of different classes apart."""
    return _within(prompts.flatten(-3, -2), prompt_labels(prompts), inverse_temperature)


def spurious_image_loss(
    images: Float[Tensor, "*runs images dim"],
    groups: Int[Tensor, "*runs images"],
    inverse_temperature: Float[Tensor, "*runs"] | float,
) -> Float[Tensor, "*runs"]:
    """L_vs, Eq. 4: images of a group (same class, same attribute value) together, away from all other images."""
    return _within(images, groups, inverse_temperature)


def spurious_language_loss(
    prompts: Float[Tensor, "*runs templates groups dim"], inverse_temperature: Float[Tensor, "*runs"] | float
) -> Float[Tensor, "*runs"]:
    """L_ls, Eq. 5: a group's prompts ("waterbird on water") together, prompts of different groups apart."""
    return _within(prompts.flatten(-3, -2), prompt_labels(prompts), inverse_temperature)


def prompt_labels(prompts: Float[Tensor, "*runs templates classes dim"]) -> Int[Tensor, "prompts"]:
    """Class (or group) of each row of ``prompts.flatten(-3, -2)``, template-major: row t·C + c is of class c."""
    templates, classes = prompts.shape[-3], prompts.shape[-2]
    return torch.arange(classes, device=prompts.device).repeat(templates)


def clip_loss(
    similarity: Float[Tensor, "*runs images texts"],
    labels: Int[Tensor, "*runs images"],
    duplicates: Duplicates = "negatives",
) -> Float[Tensor, "*runs"]:
    """L_CLIP, Eq. 1: image i against every image's text, and text j against every image, in equal parts.

    Args:
        similarity: entry (i, j) is of image i and the text of image j, over τ.
        labels: class of each image, which is the class of its text.
        duplicates: "negatives", the paper's form: another image's text is a negative even where it has the same class.
            "positives": the target is spread evenly over all texts (images) of the class.
    """
    logits = _full_precision(similarity)
    if duplicates == "negatives":
        targets = torch.eye(labels.shape[-1], dtype=logits.dtype, device=logits.device)
    else:
        same = labels.unsqueeze(-1) == labels.unsqueeze(-2)
        targets = same.to(logits.dtype) / same.sum(-1, keepdim=True)
    log_shares = logits.log_softmax(-1) + logits.log_softmax(-2)
    # The targets are symmetric, so that one product serves rows and columns.
    return -0.5 * (log_shares * targets).sum(-1).mean(-1)


def clip_loss_of_class_texts(
    logits: Float[Tensor, "*runs images classes"], labels: Int[Tensor, "*runs images"]
) -> Float[Tensor, "*runs"]:
    """L_CLIP, Eq. 1, where every image of a class is paired with one and the same text, without an images² matrix.

    Equal to :func:`clip_loss` of ``logits[:, labels]`` under either treatment of duplicates, which then agree: equal
    texts get equal shares however the target is spread over them. The image-to-text half is a cross-entropy with log
    n_c added to the logit of class c, n_c its count in the batch (METHOD section 2).
    """
    logits = _full_precision(logits)
    of_class = torch.nn.functional.one_hot(labels, logits.shape[-1]).to(logits.dtype)
    own = of_class / labels.shape[-1]
    log_counts = of_class.sum(-2, keepdim=True).log()
    to_texts = (logits + log_counts).logsumexp(-1).mean(-1)
    to_images = (logits.logsumexp(-2, keepdim=True) * own).sum((-2, -1))
    return 0.5 * (to_texts + to_images) - (logits * own).sum((-2, -1))
