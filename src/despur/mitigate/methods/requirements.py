"""What methods ask of a study before they are run on it: groups, one attribute, feature vectors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from despur.errors import ModelError, TrainingError
from despur.mitigate.study import Study


def needs_a_shortcut(study: Study, method: str) -> None:
    """For what reads which groups a shortcut makes, or what it is called.

    Raises:
        TrainingError: no class is split, so that the groups are the classes.
    """
    if study.pairs == ():
        raise TrainingError(
            "it reads what is spurious, and is not told: each class is one group",
            where=method,
            now="give groups by an attribute or by verdicts, or choose a method that needs neither (erm, group-dro)",
        )


def needs_one_attribute(study: Study, method: str) -> None:
    """For methods that are defined by one attribute of all classes.

    Raises:
        TrainingError: there are several pairs.
    """
    needs_a_shortcut(study, method)
    if study.pairs is not None:
        given = "the groups are those of one pair" if len(study.pairs) == 1 else f"{len(study.pairs)} pairs are given"
        raise TrainingError(
            f"{method} knows one attribute of all classes, and {given}",
            where=method,
            now="choose group-dro, erm-balanced, erm-reweighted or a sum of losses",
        )


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
    needs_a_shortcut(study, "the loss vs")
    split = study.groups - len(study.unpaired)
    filled = (study.group_sizes[:split] > 0).unflatten(0, (-1, 2))
    if not bool(filled.all(-1).any()):
        raise TrainingError(
            f"no class has training images both with and without {study.attribute}, so there are no groups to compare",
            where="the training split",
            now="choose another attribute, or the loss ls in place of vs",
        )


def needs_vectors(study: Study, method: str) -> None:
    """For methods that need one feature vector an image.

    Raises:
        ModelError: the training images' features are maps.
    """
    if study.train.features.ndim != 2:
        raise ModelError(
            f"{method} needs one feature vector an image, and these features are maps",
            where=method,
            now="embed again with trainable='projection'",
        )


def finite_vectors(study: Study, method: str) -> Float[Tensor, "images d_image"]:
    """The training images' features, for methods that solve and do not step: there a number that is not finite would
    show up nowhere.

    Raises:
        TrainingError: a training or validation image has such a feature, or they are larger than memory.
        ModelError: they are maps.
    """
    needs_vectors(study, method)
    features = study.train.whole(method)
    for split, own in (("training", features), ("validation", study.val.whole(method))):
        broken = int((~own.isfinite().all(-1)).sum())
        if broken:
            raise TrainingError(
                f"the features of {broken} {split} images are not finite",
                where=method,
                now="embed those images again, or leave them out",
            )
    return features
