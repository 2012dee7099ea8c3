"""Three steps of training with their gradients written out, because autograd's own cost as much as the matrix products.

Each equals the plain expression in its docstring, in value and in gradient; the gain is in fewer passes over memory,
gradients that come out in the layout of their weights, and one product instead of two where a matrix is symmetric.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

SMALLEST_NORM = 1e-12
"""As in ``torch.nn.functional.normalize``: a shorter vector has no direction. Half precision does not reach so far."""


class _UnitProjection(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, scratch: Tensor | None) -> Tensor:
        ctx.scratch = scratch
        projected = features @ weight.mT
        if bias is not None:
            projected += bias.unsqueeze(-2)
        norms = torch.linalg.vector_norm(projected, dim=-1, keepdim=True)
        norms.masked_fill_(norms < max(SMALLEST_NORM, torch.finfo(norms.dtype).tiny), torch.inf)
        unit = projected.div_(norms)
        ctx.save_for_backward(features, unit, norms)
        return unit

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor | None, Tensor | None, None]:
        (gradient,) = gradients
        features, unit, norms = cast("tuple[Tensor, Tensor, Tensor]", ctx.saved_tensors)
        along = (gradient * unit).sum(-1, keepdim=True)
        projected = torch.addcmul(gradient, unit, along, value=-1).div_(norms)
        weight = torch.matmul(projected.mT, features, out=ctx.scratch) if ctx.needs_input_grad[1] else None
        bias = projected.sum(-2) if ctx.needs_input_grad[2] else None
        return None, weight, bias, None


def unit_projection(
    features: Float[Tensor, "*#runs members features"],
    weight: Float[Tensor, "*runs dim features"],
    bias: Float[Tensor, "*runs dim"] | None,
    scratch: Float[Tensor, "*runs dim features"] | None = None,
) -> Float[Tensor, "*runs members dim"]:
    """``normalize(features @ weight.mT + bias, dim=-1)``; features get no gradient, for the encoders are frozen.

    What is projected to nothing stays 0 and passes no gradient on, in every precision.

    Args:
        scratch: where the weight's gradient is written, to be used up before the next backward pass writes there.
            Memory that is asked for anew at every step costs more than half of the product that fills it.
    """
    return cast("Tensor", _UnitProjection.apply(features, weight, bias, scratch))


class _SelfSimilarity(Function):
    @staticmethod
    def forward(ctx: Any, members: Tensor, inverse_temperature: Tensor) -> Tensor:
        scale = inverse_temperature[..., None, None]
        scaled = members * scale
        ctx.save_for_backward(members, scaled, scale)
        similarity = scaled @ members.mT
        similarity.diagonal(dim1=-2, dim2=-1).fill_(torch.finfo(similarity.dtype).min)
        return similarity

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None]:
        (gradient,) = gradients
        members, scaled, scale = cast("tuple[Tensor, Tensor, Tensor]", ctx.saved_tensors)
        to_members = (gradient + gradient.mT) @ scaled
        # The sum of gradient * cosine, without another pass over the matrix.
        to_scale = 0.5 * (members * to_members).sum((-2, -1)) / scale[..., 0, 0] if ctx.needs_input_grad[1] else None
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
