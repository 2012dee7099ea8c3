"""What is trained: the projections and the temperature of a CLIP-like model, as tensors and pure functions.

A head set is a plain mapping from names to tensors, so that an optimiser step, a safetensors file and a stack of runs
are all ordinary dictionary work. Every tensor may carry leading *runs* dimensions; the functions broadcast over them.

=================  =========================  ==========================================================
name               shape                      meaning
=================  =========================  ==========================================================
image.weight       [dim, d_image]             image projection (ViT: ``proj`` transposed, ResNet: ``c_proj``)
image.bias         [dim]                      only where the model has one (ResNet)
pool.c.weight      [dim, channels]            ``pool.*`` instead of ``image.*`` when the whole attention pool is trained
pool.c.bias        [dim]
pool.X.weight      [channels, channels]       for X in q, k, v
pool.X.bias        [channels]
pool.positions     [1 + height*width,         the mean's, then each position's
                   channels]
pool.heads         []                         integer: how many attention heads; not trained
text.weight        [dim, d_text]              text projection
text.bias          [dim]                      only where the model has one (SigLIP)
logit_scale        []                         log(1 / τ)
logit_bias         []                         only SigLIP
probe.weight       [classes, d_image]         linear probe on features; replaces the text side
probe.bias         [classes]
adapter.in.weight  [hidden, dim]              a small network that the projected image goes through
adapter.in.bias    [hidden]
adapter.out.weight [dim, hidden]
adapter.out.bias   [dim]
context.weight     [classes*contexts, dim]    unit vectors of every class in every context; replaces the text side
context.sharpness  []                         1 / temperature at which an image's context is inferred
=================  =========================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Heads = Mapping[str, Tensor]

MAX_LOG_SCALE = log(100.0)
"""CLIP's clamp: 1/τ ≤ 100 (METHOD section 2)."""


def _linear(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    projected = features @ weight.mT
    return projected if bias is None else projected + bias.unsqueeze(-2)


def attend(
    heads: Heads,
    features: Float[Tensor, "*runs images channels height width"],
    shift: Float[Tensor, "images channels"] | None = None,
) -> Float[Tensor, "*runs images channels"]:
    """CLIP's attention pooling of a convolutional map, from its own parameters, before its output projection.

    The mean over positions is the query; keys and values are the mean and every position, all with positional
    embeddings. ``pool.heads`` (a scalar tensor) is the number of attention heads.

    Args:
        shift: added to every position of ``features``. It moves all keys by one vector, which the softmax does not
            see, and all values by one vector, which weights that sum to 1 let through: of the attention only the
            query feels it. Its gradient therefore costs a few vectors, not a map.
    """
    channels = features.shape[-3]
    count = int(heads["pool.heads"].flatten()[0])
    tokens = features.flatten(-2).mT
    tokens = torch.cat([tokens.mean(-2, keepdim=True), tokens], dim=-2)
    tokens = tokens + heads["pool.positions"].unsqueeze(-3)

    def split(name: str, inputs: Tensor) -> Tensor:
        weight, bias = heads[f"pool.{name}.weight"], heads[f"pool.{name}.bias"]
        projected = inputs @ weight.mT.unsqueeze(-3) + bias.unsqueeze(-2).unsqueeze(-2)
        return projected.unflatten(-1, (count, channels // count)).transpose(-2, -3)

    mean = tokens[..., :1, :]
    query = split("q", mean if shift is None else mean + shift.unsqueeze(-2))
    pooled = F.scaled_dot_product_attention(query, split("k", tokens), split("v", tokens))
    pooled = pooled.transpose(-2, -3).flatten(-2).squeeze(-2)
    return pooled if shift is None else pooled + shift @ heads["pool.v.weight"].mT


def attention_pool(
    heads: Heads,
    features: Float[Tensor, "*runs images channels height width"],
    shift: Float[Tensor, "images channels"] | None = None,
) -> Float[Tensor, "*runs images dim"]:
    """CLIP's whole attention pool, ``pool.*``: :func:`attend` and the output projection ``pool.c``."""
    return _linear(attend(heads, features, shift), heads["pool.c.weight"], heads["pool.c.bias"])


def project_images(heads: Heads, features: Tensor) -> Float[Tensor, "*runs images dim"]:
    """Image features to the joint space, not normalised.

    Args:
        heads: with ``image.*`` for features [..., images, d_image], or with ``pool.*`` for convolutional maps
            [..., images, channels, height, width].
    """
    if "pool.c.weight" in heads:
        projected = attention_pool(heads, features)
    else:
        projected = _linear(features, heads["image.weight"], heads.get("image.bias"))
    return adapt(heads, projected) if "adapter.in.weight" in heads else projected


def adapt(heads: Heads, projected: Float[Tensor, "*runs images dim"]) -> Float[Tensor, "*runs images dim"]:
    """A projected image through the adapter: one hidden layer with ReLU."""
    hidden = _linear(projected, heads["adapter.in.weight"], heads["adapter.in.bias"]).relu()
    return _linear(hidden, heads["adapter.out.weight"], heads["adapter.out.bias"])


def project_texts(heads: Heads, features: Float[Tensor, "*runs texts d_text"]) -> Float[Tensor, "*runs texts dim"]:
    """Text features to the joint space, not normalised."""
    return _linear(features, heads["text.weight"], heads.get("text.bias"))


def embed_images(heads: Heads, features: Tensor) -> Float[Tensor, "*runs images dim"]:
    """Image features to unit vectors in the joint space."""
    return F.normalize(project_images(heads, features), dim=-1)


def embed_texts(heads: Heads, features: Float[Tensor, "*runs texts d_text"]) -> Float[Tensor, "*runs texts dim"]:
    """Text features to unit vectors in the joint space."""
    return F.normalize(project_texts(heads, features), dim=-1)


def inverse_temperature(heads: Heads) -> Float[Tensor, "*runs"]:
    """1/τ, clamped to at most 100."""
    return heads["logit_scale"].clamp(max=MAX_LOG_SCALE).exp()


def class_embeddings(
    heads: Heads, prompts: Float[Tensor, "templates classes d_text"]
) -> Float[Tensor, "*runs classes dim"]:
    """One unit vector a class: the mean of its prompts' unit embeddings, renormalised (METHOD section 4)."""
    templates, classes = prompts.shape[-3], prompts.shape[-2]
    embedded = embed_texts(heads, prompts.flatten(-3, -2))
    return F.normalize(embedded.unflatten(-2, (templates, classes)).mean(-3), dim=-1)


def class_logits(
    heads: Heads, features: Tensor, prompts: Float[Tensor, "templates classes d_text"]
) -> Float[Tensor, "*runs images classes"]:
    """Scores of every class: the probe's where the heads hold one, else 1/τ times the cosine (plus SigLIP's bias).

    Where the heads hold contexts, the log of each class's probability over contexts (:func:`context_logits`).
    """
    if "probe.weight" in heads:
        return _linear(features, heads["probe.weight"], heads["probe.bias"])
    if "context.weight" in heads:
        cosine = embed_images(heads, features) @ heads["context.weight"].mT
        scores = cosine * inverse_temperature(heads)[..., None, None]
        return context_logits(scores.unflatten(-1, (prompts.shape[-2], -1)), heads["context.sharpness"])
    cosine = embed_images(heads, features) @ class_embeddings(heads, prompts).mT
    logits = cosine * inverse_temperature(heads)[..., None, None]
    bias = heads.get("logit_bias")
    return logits if bias is None else logits + bias[..., None, None]


def context_logits(
    scores: Float[Tensor, "*runs images classes contexts"], sharpness: Float[Tensor, "*runs"]
) -> Float[Tensor, "*runs images classes"]:
    """log p(y|x) = log of the sum over contexts z of p(z|x) p(y|x, z), from the score of every (class, context) pair.

    p(z|x) is the softmax over contexts of each context's log-sum-exp over classes of sharpness × score, p(y|x, z) the
    softmax over classes of the scores in that context (An et al. 2024, Table 1 and Algorithm 1).
    """
    of_context = (scores * sharpness[..., None, None, None]).logsumexp(-2).log_softmax(-1)
    return (scores.log_softmax(-2) + of_context.unsqueeze(-2)).logsumexp(-1)
