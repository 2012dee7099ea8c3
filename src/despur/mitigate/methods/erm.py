"""Empirical risk minimisation on zero-shot logits, with and without the class prior (METHOD section 2, baselines).

Both train the image head, the text head and the temperature: the logits are the ones that classify, 1/τ times the
cosine with each class's averaged prompt embedding.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from despur.mitigate.batch import Batch
from despur.mitigate.methods.method import Method


def cross_entropies(
    logits: Float[Tensor, "runs images classes"], labels: Int[Tensor, "runs images"]
) -> Float[Tensor, "runs images"]:
    """Each image's cross-entropy."""
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").unflatten(0, labels.shape)


def mean_cross_entropy(batch: Batch) -> Float[Tensor, "runs"]:
    """The term of ERM: the mean over a batch's images, of the logits that classify."""
    return cross_entropies(batch.class_logits, batch.labels).mean(-1)


def _erm_with_prior(batch: Batch) -> Tensor:
    return cross_entropies(batch.class_logits + batch.study.log_prior, batch.labels).mean(-1)


ERM = Method(name="erm", title="ERM", terms=lambda settings: {"cross_entropy": mean_cross_entropy})

ERM_PRIOR = Method(
    name="erm-prior",
    title="ERM with the class prior",
    terms=lambda settings: {"cross_entropy": _erm_with_prior},
)
"""Logit adjustment (Menon et al. 2021): the log of the training split's class prior is added in the loss only, so that
the logits that classify are those of balanced classes. It is what the CLIP loss does within a batch."""
