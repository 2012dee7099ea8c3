"""Steps of training with their gradients written out, because autograd's own cost as much as the matrix products.

Each equals the plain expression in its docstring in value, and all but :func:`unit_combination` in gradient too; the
gain is in fewer passes over memory, gradients that come out in the layout of their weights, and one product instead of
two where a matrix is symmetric.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from despur.mitigate.scratch import Scratch

SMALLEST_NORM = 1e-12
"""As in ``torch.nn.functional.normalize``: a shorter vector has no direction. Half precision does not reach so far."""


def _to_unit(projected: Tensor) -> Tensor:
    """Divide by the norms, in place; returns them, infinite for a vector too short to have a direction."""
    norms = torch.linalg.vector_norm(projected, dim=-1, keepdim=True)
    norms.masked_fill_(norms < max(SMALLEST_NORM, torch.finfo(norms.dtype).tiny), torch.inf)
    projected.div_(norms)
    return norms


def _across_unit(gradient: Tensor, unit: Tensor, norms: Tensor, out: Tensor | None) -> Tensor:
    """The gradient of what :func:`_to_unit` was given, from the gradient of what it made."""
    along = torch.mul(gradient, unit, out=out).sum(-1, keepdim=True)
    return torch.addcmul(gradient, unit, along, value=-1, out=out).div_(norms)


class _UnitProjection(Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, scratch: Scratch | None, of: str
    ) -> Tensor:
        ctx.scratch, ctx.of = scratch, of
        shape = (*weight.shape[:-2], features.shape[-2], weight.shape[-2])
        out = None if scratch is None else scratch.take(f"{of}, embedded", shape, features)
        unit = torch.matmul(features, weight.mT, out=out)
        if bias is not None:
            unit += bias.unsqueeze(-2)
        norms = _to_unit(unit)
        ctx.save_for_backward(features, unit, norms)
        return unit

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor | None, Tensor | None, None, None]:
        (gradient,) = gradients
        features, unit, norms = cast("tuple[Tensor, Tensor, Tensor]", ctx.saved_tensors)
        scratch, of = cast("tuple[Scratch | None, str]", (ctx.scratch, ctx.of))
        out = None if scratch is None else scratch.take(f"{of}, back", tuple(unit.shape), unit)
        projected = _across_unit(gradient, unit, norms, out)
        weight = None
        if ctx.needs_input_grad[1]:
            shape = (*unit.shape[:-2], unit.shape[-1], features.shape[-1])
            out = None if scratch is None else scratch.take(f"{of}, weight", shape, unit)
            weight = torch.matmul(projected.mT, features, out=out)
        bias = projected.sum(-2) if ctx.needs_input_grad[2] else None
        return None, weight, bias, None, None


def unit_projection(
    features: Float[Tensor, "*#runs members features"],
    weight: Float[Tensor, "*runs dim features"],
    bias: Float[Tensor, "*runs dim"] | None,
    scratch: Scratch | None = None,
    of: str = "",
) -> Float[Tensor, "*runs members dim"]:
    """``normalize(features @ weight.mT + bias, dim=-1)``; features get no gradient, for the encoders are frozen.

    What is projected to nothing stays 0 and passes no gradient on, in every precision.

    Args:
        scratch: where the embeddings and the weight's gradient are written, to be used up before the next call of the
            same name. Memory that is asked for anew costs more than half of the product that fills it.
        of: what is projected: its name in ``scratch``.
    """
    return cast("Tensor", _UnitProjection.apply(features, weight, bias, scratch, of))


class _UnitCombination(Function):
    @staticmethod
    def forward(
        ctx: Any, coefficients: Tensor, share: Tensor, gram: Tensor, start: Tensor, sizes: tuple[int, ...], scratch: Any
    ) -> tuple[Tensor, ...]:
        out = None if scratch is None else scratch.take("prompts, embedded", tuple(coefficients.shape), coefficients)
        unit = torch.matmul(gram, coefficients, out=out).addcmul_(start, share[..., None, None])
        norms = _to_unit(unit)
        ctx.save_for_backward(unit, norms)
        ctx.scratch = scratch
        return tuple(part.view_as(part) for part in unit.split(sizes, dim=-2))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        unit, norms = cast("tuple[Tensor, Tensor]", ctx.saved_tensors)
        scratch = cast("Scratch | None", ctx.scratch)
        shape = tuple(unit.shape)
        found = unit.new_empty(shape) if scratch is None else scratch.take("prompts, back", shape, unit)
        sizes = [gradient.shape[-2] for gradient in gradients]
        parts = (tensor.split(sizes, dim=-2) for tensor in (unit, norms, found))
        for gradient, *of_part in zip(gradients, *parts, strict=True):
            _across_unit(gradient, *of_part)
        return found, unit.new_zeros(shape[:-2]), None, None, None, None


def unit_combination(
    coefficients: Float[Tensor, "*runs prompts dim"],
    share: Float[Tensor, "*runs"],
    gram: Float[Tensor, "prompts prompts"],
    start: Float[Tensor, "*#runs prompts dim"],
    sizes: tuple[int, ...],
    scratch: Scratch | None = None,
) -> tuple[Float[Tensor, "*runs members dim"], ...]:
    """``normalize(share * start + gram @ coefficients, dim=-1)``, split into ``sizes``.

    **Its gradients are not those of this expression** but what a step of SGD on the projection changes: for
    ``coefficients`` the gradient of the sum in front of the normalisation, for ``share`` 0
    (:mod:`despur.mitigate.span`).
    """
    return cast("tuple[Tensor, ...]", _UnitCombination.apply(coefficients, share, gram, start, sizes, scratch))


class _SelfSimilarity(Function):
    @staticmethod
    def forward(ctx: Any, members: Tensor, inverse_temperature: Tensor) -> Tensor:
        scale = inverse_temperature[..., None, None]
        similarity = (members @ members.mT).mul_(scale)
        similarity.diagonal(dim1=-2, dim2=-1).fill_(torch.finfo(similarity.dtype).min)
        ctx.save_for_backward(members, scale, similarity)
        return similarity

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None]:
        (gradient,) = gradients
        members, scale, similarity = cast("tuple[Tensor, Tensor, Tensor]", ctx.saved_tensors)
        to_members = (gradient + gradient.mT).mul_(scale) @ members
        to_scale = (gradient * similarity).sum((-2, -1)) / scale[..., 0, 0] if ctx.needs_input_grad[1] else None
        return to_members, to_scale


def self_similarity(
    members: Float[Tensor, "*runs members dim"], inverse_temperature: Float[Tensor, "*runs"]
) -> Float[Tensor, "*runs members members"]:
    """``inverse_temperature * members @ members.mT``, where nobody is compared with itself.

    The diagonal holds the type's lowest number: a softmax gives it a share of exactly 0. No gradient may reach it.
    """
    return cast("Tensor", _SelfSimilarity.apply(members, inverse_temperature))


class _MeanLogShare(Function):
    @staticmethod
    def forward(ctx: Any, similarity: Tensor, weights: Tensor, anchors: Tensor) -> Tensor:
        shares = similarity.log_softmax(-1)
        ctx.save_for_backward(shares, weights, anchors)
        flat, flat_weights = shares.flatten(-2), weights.flatten(-2)
        if weights.ndim == 2:
            return -(flat @ flat_weights)
        return -(flat.unsqueeze(-2) @ flat_weights.unsqueeze(-1)).squeeze((-2, -1))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0][..., None, None]
        shares, weights, anchors = cast("tuple[Tensor, Tensor, Tensor]", ctx.saved_tensors)
        to_similarity = shares.exp().mul_(anchors.unsqueeze(-1) * gradient).addcmul_(weights, gradient, value=-1)
        return to_similarity, None, None


def mean_log_share(
    similarity: Float[Tensor, "*runs anchors others"],
    weights: Float[Tensor, "*#runs anchors others"],
    anchors: Float[Tensor, "*#runs anchors"],
) -> Float[Tensor, "*runs"]:
    """``-(similarity.log_softmax(-1) * weights).sum((-2, -1))``; ``anchors`` is ``weights.sum(-1)``.

    ``weights`` must be 0 where the similarity is the type's lowest number.
    """
    return cast("Tensor", _MeanLogShare.apply(similarity, weights, anchors))
