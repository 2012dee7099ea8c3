"""What is minimised: named terms, each a function of one batch, and their weights.

A term is added by writing a function of a :class:`~despur.mitigate.batch.Batch` and one line in a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from despur.errors import SettingsError, TrainingError, nearest
from despur.mitigate import cosine, losses
from despur.mitigate.batch import Batch
from despur.mitigate.settings import TrainSettings

Term = Callable[[Batch], Float[Tensor, "runs"]]


def _clip(batch: Batch) -> Tensor:
    if batch.settings.clip_text == "average":
        return losses.clip_loss_of_class_texts(batch.class_logits, batch.labels)
    similarity = losses.similarities(batch.images, batch.paired_texts, batch.inverse_temperature)
    return losses.clip_loss(similarity, batch.labels, batch.settings.duplicates)


def _vc(batch: Batch) -> Tensor:
    return losses.contrast(batch.image_similarity, batch.same_class)


def _lc(batch: Batch) -> Tensor:
    return losses.contrast(batch.class_prompt_similarity, batch.study.class_prompt_pairs)


def _vs(batch: Batch) -> Tensor:
    return losses.contrast(batch.image_similarity, batch.same_group)


def _ls(batch: Batch) -> Tensor:
    return losses.contrast(batch.group_prompt_similarity, batch.study.group_prompt_pairs)


def _vc_cosine(batch: Batch) -> Tensor:
    return cosine.label_cosine_loss(batch.images, batch.labels, absolute=batch.settings.absolute)


def _lc_cosine(batch: Batch) -> Tensor:
    settings = batch.settings
    return cosine.language_cosine_loss(
        batch.class_prompts, batch.labels, absolute=settings.absolute, released_indexing=settings.released_indexing
    )


def _vs_cosine(batch: Batch) -> Tensor:
    if batch.study.pairs is not None:
        raise TrainingError(
            "the cosine form of the loss 'vs' knows one attribute of all classes, and groups are those of pairs",
            where="losses",
            now="use the contrastive form, or leave vs out",
        )
    return cosine.label_cosine_loss(batch.images, batch.groups, absolute=batch.settings.absolute)


def _ls_cosine(batch: Batch) -> Tensor:
    return cosine.orthogonality_loss(
        batch.class_prompts, batch.phrase_prompts, batch.labels, released_indexing=batch.settings.released_indexing
    )


TERMS: Mapping[str, Term] = {"clip": _clip, "vc": _vc, "lc": _lc, "vs": _vs, "ls": _ls}
"""The paper's terms, Eq. 1 to 5."""

COSINE_TERMS: Mapping[str, Term] = {**TERMS, "vc": _vc_cosine, "lc": _lc_cosine, "vs": _vs_cosine, "ls": _ls_cosine}
"""The released code's terms under the same names."""


def find_terms(names: Iterable[str], settings: TrainSettings) -> dict[str, Term]:
    """The terms of those names, in the form that ``settings.similarity`` asks for.

    Raises:
        SettingsError: a name is unknown, is given twice, or there is none.
    """
    table = TERMS if settings.similarity == "contrastive" else COSINE_TERMS
    found: dict[str, Term] = {}
    for name in names:
        if name not in table:
            raise SettingsError(f"there is no loss {name!r}", where="losses", now=nearest(name, list(table)))
        if name in found:
            raise SettingsError(f"the loss {name!r} is given twice", where="losses", now="give it once, with a weight")
        found[name] = table[name]
    if not found:
        raise SettingsError("no loss is given", where="losses", now="choose from " + ", ".join(table))
    return found


@dataclass(frozen=True)
class Objective:
    """A weighted sum of terms, for a stack of runs that may weight them differently.

    Attributes:
        terms: by name, in the order of the rows of ``weights`` and of what :meth:`values` returns.
        weights: one row a term, one column a run.
    """

    terms: Mapping[str, Term]
    weights: Float[Tensor, "terms runs"]

    def values(self, batch: Batch) -> Float[Tensor, "terms runs"]:
        """Every term, not weighted."""
        return torch.stack([term(batch) for term in self.terms.values()])

    def total(self, values: Float[Tensor, "terms runs"]) -> Float[Tensor, "runs"]:
        """What is minimised, Eq. 6."""
        return (values * self.weights).sum(0)


def check_weights(weights: Iterable[str], terms: Iterable[str]) -> None:
    """Refuse a weight for a term that is not trained on.

    Raises:
        SettingsError: there is one.
    """
    known = sorted(terms)
    for name in weights:
        if name not in known:
            hint = nearest(name, known) if known else "leave it out"
            raise SettingsError(f"a weight is given for {name!r}, which is not trained on", where="weights", now=hint)


def make_objective(terms: Mapping[str, Term], settings: Sequence[TrainSettings], like: Tensor) -> Objective:
    """An objective for one run a settings entry, on the device and in the precision of ``like``.

    Raises:
        SettingsError: a weight is given for a term that is not in the objective.
    """
    for entry in settings:
        check_weights(entry.weights, terms)
    rows = [[entry.weights.get(name, 1.0) for entry in settings] for name in terms]
    return Objective(terms, torch.tensor(rows, dtype=like.dtype, device=like.device))
