"""The text projection of a stack of runs, held as what training adds to it: coefficients of the prompts.

The gradient of the text projection W is Gᵀ P, where P are the text features of the prompts and G the gradients of their
embeddings. Momentum adds such products and weight decay scales, so that SGD never leaves

    W = share · W₀ + coefficientsᵀ P.

SGD on W is therefore the same as SGD with the gradients G on the coefficients and 0 on the share, and the embeddings
are share · (P W₀ᵀ) + (P Pᵀ) coefficients. That is exact, and one product of [prompts, prompts] with [prompts, dim]
where W takes two of [prompts, d_text] with [d_text, dim]. It pays while there are fewer than 2 · d_text prompts. A bias
is the weight of a feature that is always 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from despur.backbones.heads import Heads, project_texts
from despur.mitigate.kernels import unit_combination
from despur.mitigate.scratch import Scratch
from despur.mitigate.study import Study

SPANNED = COEFFICIENTS, SHARE = "text.coefficients", "text.share"


@dataclass(frozen=True)
class PromptSpan:
    """What stays the same while coefficients are trained.

    Attributes:
        sizes: prompts of each set, by the set's name, in the order of the rows of the others.
        features: of the prompts before the projection, without the 1 that a bias would see.
        gram: dot products of the prompts' features, that 1 among them where there is a bias.
        projected: the prompts under the heads at the start; one run's where all runs start from the same heads.
        start: the text projection's tensors at the start, [runs, ...].
    """

    sizes: Mapping[str, int]
    features: Float[Tensor, "prompts d_text"]
    gram: Float[Tensor, "prompts prompts"]
    projected: Float[Tensor, "#runs prompts dim"]
    start: Heads

    def begin(self, heads: Heads) -> dict[str, Tensor]:
        """The heads before the first step, with coefficients and share in place of the projection."""
        weight = self.start["text.weight"]
        runs, dim = weight.shape[:2]
        others = {name: head for name, head in heads.items() if name not in self.start}
        return {**others, COEFFICIENTS: weight.new_zeros(runs, len(self.features), dim), SHARE: weight.new_ones(runs)}

    def embed(self, heads: Heads, scratch: Scratch | None) -> dict[str, Float[Tensor, "runs members dim"]]:
        """Every set's prompts as unit vectors in the joint space."""
        parts = unit_combination(
            heads[COEFFICIENTS], heads[SHARE], self.gram, self.projected, tuple(self.sizes.values()), scratch
        )
        return dict(zip(self.sizes, parts, strict=True))

    def whole(self, heads: Heads) -> dict[str, Tensor]:
        """The heads with the projection that coefficients and share stand for in their place."""
        coefficients, share = heads[COEFFICIENTS], heads[SHARE]
        projection = {"text.weight": coefficients.mT @ self.features, "text.bias": coefficients.sum(-2)}
        others = {name: head for name, head in heads.items() if name not in SPANNED}
        for name, head in self.start.items():
            others[name] = projection[name].addcmul_(head, share.view(-1, *(1,) * (head.ndim - 1)))
        return others


def costs_less(prompts: int, d_text: int) -> bool:
    """Whether one product of [prompts, prompts] is cheaper than two of [prompts, d_text]."""
    return prompts < 2 * d_text


def span_of(study: Study, start: Heads, sets: tuple[str, ...]) -> PromptSpan | None:
    """The span of the sets of prompts that a training reads; None where to train the projection itself is better.

    That is where it costs less, where a step reads only some of the prompts, and in half precision, which cannot add
    up the products of many prompts.

    Args:
        start: heads of a stack of runs before the first step.
        sets: attributes of the study: ``class_prompts``, ``group_prompts``, ``phrase_prompts``.
    """
    own = {name: getattr(study, name).flatten(0, 1) for name in sets}
    sizes = {name: len(features) for name, features in own.items()}
    narrow = torch.finfo(study.class_prompts.dtype).bits < torch.finfo(torch.float32).bits
    windowed = "group_prompts" in sets and study.prompt_window < len(study.group_prompts)
    if not sets or narrow or windowed or not costs_less(sum(sizes.values()), study.class_prompts.shape[-1]):
        return None
    features = torch.cat(list(own.values()))
    heads = {name: start[name] for name in ("text.weight", "text.bias") if name in start}
    seen = F.pad(features, (0, 1), value=1.0) if "text.bias" in heads else features
    alike = all(head.stride(0) == 0 for head in heads.values())
    projected = project_texts({name: head[:1] for name, head in heads.items()} if alike else heads, features)
    return PromptSpan(sizes, features, seen @ seen.mT, projected, heads)
