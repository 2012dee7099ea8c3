"""Prompts with the attribute projected out (Chuang et al. 2023, "Debiasing vision-language models via biased prompts").

P₀ = I - V(VᵀV)⁻¹Vᵀ removes the span of the attribute's phrase vectors from the text side. ``orth-cali`` calibrates
it: with M the mean of (z_i - z_j)(z_i - z_j)ᵀ over pairs of prompts that should mean the same (a class with the
attribute and without it), P = P₀ (I + λM)⁻¹ is the closed form that also draws those together; λ = 1000 is theirs.
The projection becomes part of the text head, so that each prompt is projected before the average over templates.
"""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from despur.backbones.heads import class_embeddings
from despur.errors import TrainingError
from despur.mitigate.methods.method import Method, Option, Start, no_terms, nothing
from despur.mitigate.methods.requirements import needs_a_shortcut
from despur.mitigate.study import Study

LAMBDA = "calibration"


def basis(vectors: Float[Tensor, "vectors dim"]) -> Float[Tensor, "rank dim"]:
    """Orthonormal rows with the span of the vectors; vectors that depend on others add no row."""
    if not len(vectors):
        return vectors
    _, sizes, directions = torch.linalg.svd(vectors, full_matrices=False)
    return directions[sizes > sizes.amax() * torch.finfo(sizes.dtype).eps * max(vectors.shape)]


def projection_off(spurious: Float[Tensor, "phrases dim"]) -> Float[Tensor, "dim dim"]:
    """P₀: the orthogonal projection onto what is orthogonal to all the vectors."""
    span = basis(spurious)
    return torch.eye(spurious.shape[-1], dtype=spurious.dtype, device=spurious.device) - span.mT @ span


def calibrated_projection(
    spurious: Float[Tensor, "phrases dim"], differences: Float[Tensor, "pairs dim"], strength: float
) -> Float[Tensor, "dim dim"]:
    """P₀ (I + λM)⁻¹, M the mean outer product of the differences."""
    moment = differences.mT @ differences / len(differences)
    identity = torch.eye(spurious.shape[-1], dtype=spurious.dtype, device=spurious.device)
    return projection_off(spurious) @ torch.linalg.inv(identity + strength * moment)


def spurious_vectors(study: Study) -> Float[Tensor, "phrases dim"]:
    """Unit vectors of the attribute's phrases, each averaged over templates.

    Raises:
        TrainingError: the study has none.
    """
    if study.phrase_prompts is None:
        raise TrainingError(
            "the attribute has no phrase, so there is no direction to remove",
            where=study.attribute,
            now="give the attribute a phrase",
        )
    return class_embeddings(study.heads, study.phrase_prompts)


def with_without(study: Study) -> Float[Tensor, "classes dim"]:
    """For each class its unit vector with the attribute minus that without it."""
    vectors = class_embeddings(study.heads, study.group_prompts).unflatten(0, (-1, 2))
    return vectors[:, 1] - vectors[:, 0]


def _texts_through(study: Study, matrix: Float[Tensor, "dim dim"]) -> dict[str, Tensor]:
    changed = {name: matrix @ study.heads[name] for name in ("text.weight", "text.bias") if name in study.heads}
    return {**study.heads, **changed}


def _project(start: Start) -> dict[str, Tensor]:
    return _texts_through(start.study, projection_off(spurious_vectors(start.study)))


def _calibrate(start: Start) -> dict[str, Tensor]:
    study = start.study
    matrix = calibrated_projection(spurious_vectors(study), with_without(study), start.option(LAMBDA))
    return _texts_through(study, matrix)


def _has_phrase(study: Study, method: str) -> None:
    needs_a_shortcut(study, method)
    spurious_vectors(study)


ORTH_PROJ = Method(
    name="orth-proj",
    title="Orthogonal prompts",
    terms=no_terms,
    heads=_project,
    trained=nothing,
    check=partial(_has_phrase, method="orth-proj"),
    note="given the attribute's phrase",
    seeded=False,
)

ORTH_CALI = Method(
    name="orth-cali",
    title="Orthogonal prompts, calibrated",
    terms=no_terms,
    options={LAMBDA: Option(1000.0, 1.0, 10_000.0)},
    heads=_calibrate,
    trained=nothing,
    check=partial(_has_phrase, method="orth-cali"),
    note="given the attribute's phrase",
    seeded=False,
)
