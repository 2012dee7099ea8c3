"""What a mitigation method is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from despur.backbones.heads import Heads
from despur.errors import TrainingError
from despur.mitigate.batches import Sampler, shuffled
from despur.mitigate.objective import Term
from despur.mitigate.settings import TrainSettings
from despur.mitigate.study import Study


def pretrained_heads(study: Study) -> dict[str, Tensor]:
    """The heads that the model came with."""
    return dict(study.heads)


def no_state(study: Study) -> dict[str, Tensor]:
    """Most methods keep nothing from step to step beside the heads."""
    return {}


def projections(heads: Heads, settings: TrainSettings) -> list[str]:
    """The image side, and the text side and temperature unless switched off (METHOD section 2, "What is trained").

    SigLIP's ``logit_bias`` is not among them: it is the same for every class and cancels in every softmax.
    """
    sides = ["image.", "pool."]
    if settings.train_text:
        sides.append("text.")
    if settings.train_temperature:
        sides.append("logit_scale")
    return [name for name, head in heads.items() if name.startswith(tuple(sides)) and head.is_floating_point()]


@dataclass(frozen=True)
class Method:
    """One way to retrain a model's heads. Adding one is a file that makes one of these and a line in ``METHODS``.

    Attributes:
        name: what a user types.
        title: what tables call it.
        note: what a reader must know to compare it fairly ("given the group labels").
        terms: the loss terms under given settings, by name; none: nothing is trained.
        settings: the method's own defaults.
        heads: what a run starts from.
        trained: which of those heads are trained.
        sampler: how an epoch's images are drawn.
        state: what the terms keep from step to step, for one run.
        check: refuses a study that the method means nothing on.
    """

    name: str
    title: str
    terms: Callable[[TrainSettings], Mapping[str, Term]]
    settings: TrainSettings = field(default_factory=TrainSettings)
    heads: Callable[[Study], dict[str, Tensor]] = pretrained_heads
    trained: Callable[[Heads, TrainSettings], list[str]] = projections
    sampler: Sampler = shuffled
    state: Callable[[Study], dict[str, Tensor]] = no_state
    check: Callable[[Study], None] = lambda study: None
    note: str = ""


def needs_every_group(study: Study) -> None:
    """For methods that weight or draw by group.

    Raises:
        TrainingError: a group has no training image.
    """
    empty = torch.nonzero(study.group_sizes == 0).flatten().tolist()
    if empty:
        names = ", ".join(study.group_name(group) for group in empty)
        raise TrainingError(
            f"no training image shows {names}",
            where="the training split",
            now="add such images, or choose a method that needs no groups (clip+lc+vc+ls, erm-prior)",
        )


def needs_two_groups_in_a_class(study: Study) -> None:
    """For terms that hold groups of a class apart.

    Raises:
        TrainingError: within every class either all training images have the attribute or none has.
    """
    filled = (study.group_sizes > 0).unflatten(0, (-1, 2))
    if not bool(filled.all(-1).any()):
        raise TrainingError(
            f"no class has training images both with and without {study.attribute}, so there are no groups to compare",
            where="the training split",
            now="choose another attribute, or the loss ls in place of vs",
        )
