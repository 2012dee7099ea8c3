"""RoboShot (Adila et al. 2024, ICLR): image embeddings without the harmful directions, with the helpful ones stressed.

Each harmful direction is a difference of two prompts' vectors that tell the attribute apart; an orthonormal basis of
them (QR) is projected out of every image. Each helpful direction is a difference that tells classes apart; along each
vector of their basis an image's component is doubled. Both are linear up to the length that is normalised away, so
they become part of the image head. The paper asks a language model for the differences; here they come from what a
person has judged: the prompts of classes with the attribute minus those without it, averaged over classes, and the
prompts of two classes.
"""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from despur.backbones.heads import class_embeddings
from despur.mitigate.methods.method import Method, Start, no_terms, nothing
from despur.mitigate.methods.orthogonal import basis, projection_off, with_without
from despur.mitigate.methods.requirements import needs_a_shortcut
from despur.mitigate.study import Study


def robust_map(
    harmful: Float[Tensor, "harmful dim"], helpful: Float[Tensor, "helpful dim"]
) -> Float[Tensor, "dim dim"]:
    """(I + UᵀU)(I - QᵀQ), the rows of Q and U being orthonormal bases of the harmful and of the helpful directions."""
    identity = torch.eye(harmful.shape[-1], dtype=harmful.dtype, device=harmful.device)
    told = basis(helpful)
    return (identity + told.mT @ told) @ projection_off(harmful)


def class_differences(study: Study) -> Float[Tensor, "pairs dim"]:
    """Each class's unit vector minus the next class's: they span all differences."""
    vectors = class_embeddings(study.heads, study.class_prompts)
    return vectors[:-1] - vectors[1:]


def _images_through(start: Start) -> dict[str, Tensor]:
    study = start.study
    harmful = with_without(study)
    # One direction an attribute: classes differ in it by what is not the attribute alone.
    harmful = harmful.mean(0, keepdim=True) if study.pairs is None else harmful
    matrix = robust_map(harmful, class_differences(study))
    names = ("image.weight", "image.bias", "pool.c.weight", "pool.c.bias")
    return {**study.heads, **{name: matrix @ study.heads[name] for name in names if name in study.heads}}


ROBOSHOT = Method(
    name="roboshot",
    title="RoboShot",
    terms=no_terms,
    heads=_images_through,
    trained=nothing,
    check=partial(needs_a_shortcut, method="roboshot"),
    note="given the attribute's phrase",
    seeded=False,
)
