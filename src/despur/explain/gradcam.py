"""Grad-CAM of every class and every run from one pass through the encoder's trunk (METHOD section 4).

Grad-CAM asks only for the *spatial mean* of a logit's gradient at the explained layer. A vector added to every position
of that layer (a shift, zero in value) has the sum over positions as its gradient, so the layer is differentiated with
respect to a shift of [images, channels] and no gradient of the layer's own size is ever kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from despur.backbones.heads import Heads, attention_pool, class_embeddings, class_logits, project_images
from despur.backbones.protocol import Backbone, LayerOutput
from despur.explain.maps import scale_maps

__all__ = ["CLASSES", "class_maps", "explained_classes", "feature_gradients", "flatten_runs", "layer_maps"]

LOGIT_SCALE = 100.0
"""The explained logit is 100 × cosine, whatever temperature a run has learned."""

BATCH_ELEMENTS = 2**24
"""Elements of one tensor of gradients that are alive at once: 64 MiB in float32."""

CLASSES = "classes"
"""Where the classes' unit vectors ride among the heads once their runs are laid side by side."""


def class_maps(
    backbone: Backbone,
    heads: Heads,
    pixels: Float[Tensor, "images 3 input_height input_width"],
    prompts: Float[Tensor, "templates classes d_text"],
) -> Float[Tensor, "*runs images classes height width"]:
    """Explanation map of every class at the explained layer's resolution, in [0, 1].

    Args:
        heads: one model's heads, or a stack with leading runs dimensions, on the pixels' device.
        pixels: preprocessed images.
        prompts: text features of the classes' prompts; not read where the heads hold a probe.
    """
    return layer_maps(backbone, heads, backbone.trunk(pixels), explained_classes(heads, prompts))


def explained_classes(
    heads: Heads, prompts: Float[Tensor, "templates classes d_text"]
) -> Float[Tensor, "*runs classes dim"] | None:
    """The unit vector of every class; None where the heads hold a probe, whose classes are its own rows."""
    return None if "probe.weight" in heads else class_embeddings(heads, prompts)


def layer_maps(
    backbone: Backbone, heads: Heads, output: LayerOutput, classes: Float[Tensor, "*runs classes dim"] | None
) -> Float[Tensor, "*runs images classes height width"]:
    """:func:`class_maps` from a trunk's output, which any number of models can share.

    Args:
        classes: what :func:`explained_classes` says.
    """
    output = output.in_float32()
    activations = output.spatial(output.activations.detach()).flatten(-2)
    runs, flat = flatten_runs(heads, classes)
    gradients = _pooled_gradients if "pool.c.weight" in heads else _projected_gradients
    # Grad-CAM's weight of a channel: the gradient's mean over the grid.
    weights = (part / math.prod(output.grid) for part in gradients(backbone, flat, output))
    maps = torch.cat([scale_maps(torch.einsum("rcnk,nkp->rncp", part, activations).relu()) for part in weights])
    return maps.reshape(*runs, *maps.shape[1:3], *output.grid)


def _zero_shift(output: LayerOutput) -> Float[Tensor, "images channels"]:
    """What is differentiated: one value an image and channel, added to every position of the grid."""
    activations = output.activations
    channels = activations.shape[1] if output.residual is None else activations.shape[-1]
    return activations.new_zeros(activations.shape[0], channels).requires_grad_()


def _embedding_gradients(
    embedded: Float[Tensor, "*runs images dim"], classes: Float[Tensor, "*runs classes dim"]
) -> Float[Tensor, "*runs classes images dim"]:
    """Gradient of 100 × cosine(embedded, class) with respect to the embedding before its normalisation.

    With z the embedding, u = z / |z| and t the class's unit vector it is 100 (t - (t·u) u) / |z|.
    """
    length = embedded.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    unit = embedded / length
    cosine = classes @ unit.mT
    across = classes.unsqueeze(-2) - cosine.unsqueeze(-1) * unit.unsqueeze(-3)
    return LOGIT_SCALE * across / length.unsqueeze(-3)


def feature_gradients(
    heads: Heads, features: Float[Tensor, "images d_image"]
) -> Float[Tensor, "runs classes images d_image"]:
    """Gradient of every class logit with respect to the features before the projection."""
    if "probe.weight" in heads:
        return heads["probe.weight"].unsqueeze(-2).expand(-1, -1, *features.shape)
    if "adapter.in.weight" in heads or "context.weight" in heads:
        return _nonlinear_gradients(heads, features)
    gradients = _embedding_gradients(project_images(heads, features), heads[CLASSES])
    return gradients @ heads["image.weight"].unsqueeze(-3)


def _nonlinear_gradients(
    heads: Heads, features: Float[Tensor, "images d_image"]
) -> Float[Tensor, "runs classes images d_image"]:
    """The same by autograd, where a class's score is not its cosine with a projection; 100 stands for 1/τ here too."""
    classes = heads[CLASSES]
    scale = torch.full((len(classes),), math.log(LOGIT_SCALE), dtype=features.dtype, device=features.device)
    plain = {name: head for name, head in heads.items() if name != CLASSES} | {"logit_scale": scale}
    with torch.enable_grad():
        leaf = features.expand(len(classes), *features.shape).detach().requires_grad_()
        if "context.weight" in heads:
            scores = class_logits(plain, leaf, classes[:1])
        else:
            scores = LOGIT_SCALE * F.normalize(project_images(plain, leaf), dim=-1) @ classes.mT
        found = [
            torch.autograd.grad(scores[..., label].sum(), leaf, retain_graph=True)[0]
            for label in range(classes.shape[1])
        ]
    return torch.stack(found, dim=1)


def _projected_gradients(
    backbone: Backbone, heads: Heads, output: LayerOutput
) -> Iterator[Float[Tensor, "some_runs classes images channels"]]:
    """Gradients of the shift where heads read features: all runs share one graph of the encoder's rest."""
    shift = _zero_shift(output)
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        features = backbone.finish(output, shift)
    values = features.detach().float()
    first = heads["probe.weight"] if "probe.weight" in heads else heads[CLASSES]
    at_once = max(1, BATCH_ELEMENTS // (first.shape[1] * values.numel()))
    for start in range(0, len(first), at_once):
        few = {name: tensor[start : start + at_once] for name, tensor in heads.items()}
        cotangents = feature_gradients(few, values)
        gradients = _pull_back(features, shift, cotangents.flatten(0, 1), output)
        yield gradients.unflatten(0, cotangents.shape[:2])


def _pooled_gradients(
    backbone: Backbone, heads: Heads, output: LayerOutput
) -> Iterator[Float[Tensor, "some_runs classes images channels"]]:
    """Gradients of the shift where the attention pool itself is trained: the heads read the layer, one run a graph."""
    activations = backbone.finish(output).float()
    for run in range(len(heads[CLASSES])):
        model = {name: tensor[run] for name, tensor in heads.items()}
        shift = _zero_shift(output)
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            embedded = attention_pool(model, activations, shift)
        cotangents = _embedding_gradients(embedded.detach(), model[CLASSES])
        yield _pull_back(embedded, shift, cotangents, output).unsqueeze(0)


def _pull_back(
    results: Float[Tensor, "images dim"],
    shift: Float[Tensor, "images channels"],
    cotangents: Float[Tensor, "count images dim"],
    output: LayerOutput,
) -> Float[Tensor, "count images channels"]:
    """Vector-Jacobian products of the shift, as many at once as the layer's size allows, in float32."""
    at_once = max(1, BATCH_ELEMENTS // output.activations.numel())
    parts = [
        torch.autograd.grad(results, shift, part.to(results.dtype), retain_graph=True, is_grads_batched=True)[0]
        for part in cotangents.split(at_once)
    ]
    return torch.cat(parts).float()


def flatten_runs(
    heads: Heads, classes: Float[Tensor, "*runs classes dim"] | None = None
) -> tuple[tuple[int, ...], dict[str, Tensor]]:
    """The runs dimensions that a stack's tensors broadcast to, and every tensor with exactly one of that many runs.

    Args:
        classes: what :func:`explained_classes` says; they ride along under :data:`CLASSES`.
    """
    heads = heads if classes is None else {**heads, CLASSES: classes}
    own = {name: {"weight": 2, "positions": 2, "bias": 1, CLASSES: 2}.get(name.split(".")[-1], 0) for name in heads}
    leading = {name: tensor.ndim - own[name] for name, tensor in heads.items()}
    runs = tuple(torch.broadcast_shapes(*(tensor.shape[: leading[name]] for name, tensor in heads.items())))
    flat = {
        name: tensor.broadcast_to(runs + tensor.shape[leading[name] :]).reshape(-1, *tensor.shape[leading[name] :])
        for name, tensor in heads.items()
    }
    return runs, flat
