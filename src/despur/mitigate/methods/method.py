"""What a mitigation method is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from despur.backbones.heads import Heads
from despur.errors import ModelError, SettingsError, TrainingError, nearest
from despur.mitigate.batches import Sampler, shuffled
from despur.mitigate.objective import Term
from despur.mitigate.settings import TrainSettings
from despur.mitigate.study import Study


@dataclass(frozen=True)
class Option:
    """A number that only one method has: its default, and the range that a search may try.

    Attributes:
        logarithmic: whether the range is searched evenly in its logarithm.
    """

    default: float
    low: float
    high: float
    logarithmic: bool = True


@dataclass(frozen=True)
class Start:
    """One run before its first step.

    Attributes:
        settings: with every option of the method in ``settings.options``.
        generator: the run's own; what is drawn here is drawn before the first image.
    """

    study: Study
    settings: TrainSettings
    generator: torch.Generator

    def option(self, name: str) -> float:
        """The run's value of one of the method's options."""
        return self.settings.options[name]


def pretrained_heads(start: Start) -> dict[str, Tensor]:
    """The heads that the model came with."""
    return dict(start.study.heads)


def no_state(start: Start, heads: Heads) -> dict[str, Tensor]:
    """Most methods keep nothing from step to step beside the heads."""
    return {}


def as_they_are(start: Heads, heads: Heads, state: Mapping[str, Tensor]) -> Heads:
    """Most methods classify with what they train."""
    return heads


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


def nothing(heads: Heads, settings: TrainSettings) -> list[str]:
    """For methods whose heads are computed and not trained."""
    return []


@dataclass(frozen=True)
class SecondStage:
    """A method that trains, looks at what it got, and trains again from the start (Just Train Twice).

    Attributes:
        share: epochs of the first stage as a share of the second's, rounded.
        look: given the study, the heads after the first stage and the state, both with a leading runs dimension;
            changes the state in place.
    """

    share: float
    look: Callable[[Study, Heads, Mapping[str, Tensor]], None]

    def first_epochs(self, epochs: int) -> int:
        """Epochs of the first stage, at least one."""
        return max(1, round(self.share * epochs))


@dataclass(frozen=True)
class Method:
    """One way to repair a model's heads. Adding one is a file that makes one of these and a line in ``METHODS``.

    Attributes:
        name: what a user types.
        title: what tables call it.
        note: what a reader must know to compare it fairly ("given the group labels").
        terms: the loss terms under given settings, by name; none: nothing is trained.
        settings: the method's own defaults.
        options: numbers of its own, by name; a run's values are in its ``Start``.
        heads: what a run starts from; where nothing is trained, the outcome.
        trained: which of those heads are trained.
        sampler: how an epoch's images are drawn.
        state: what the terms keep from step to step, for one run. Two names are read by the trainer:
            ``batches.DRAW_WEIGHTS``, how often each training image is to be drawn, and ``batches.MEMBERS``, indices
            of the training images that there are for this run.
        second: where it trains twice.
        shown: the heads that classify, from those at the start, those trained, and the state.
        check: refuses a study that the method means nothing on.
        seeded: whether two seeds give two runs.
        fits_validation: whether it is fitted to the validation split, whose accuracy then flatters it.
    """

    name: str
    title: str
    terms: Callable[[TrainSettings], Mapping[str, Term]]
    settings: TrainSettings = field(default_factory=TrainSettings)
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])
    heads: Callable[[Start], dict[str, Tensor]] = pretrained_heads
    trained: Callable[[Heads, TrainSettings], list[str]] = projections
    sampler: Sampler = shuffled
    state: Callable[[Start, Heads], dict[str, Tensor]] = no_state
    second: SecondStage | None = None
    shown: Callable[[Heads, Heads, Mapping[str, Tensor]], Heads] = as_they_are
    check: Callable[[Study], None] = lambda study: None
    note: str = ""
    seeded: bool = True
    fits_validation: bool = False

    def with_options(self, settings: TrainSettings) -> TrainSettings:
        """The settings with every option of the method, its default where none was chosen.

        Raises:
            SettingsError: an option is given that the method has not.
        """
        for name in settings.options.keys() - self.options.keys():
            hint = nearest(name, list(self.options)) if self.options else "it has none"
            raise SettingsError(f"{self.name} has no option {name!r}", where="options", now=hint)
        defaults = {name: option.default for name, option in self.options.items()}
        return settings.model_copy(update={"options": {**defaults, **settings.options}})


def no_terms(settings: TrainSettings) -> Mapping[str, Term]:
    """For methods that train nothing step by step."""
    return {}


def needs_one_attribute(study: Study, method: str) -> None:
    """For methods that are defined by one attribute of all classes.

    Raises:
        TrainingError: there are several pairs.
    """
    if study.pairs is not None:
        raise TrainingError(
            f"{method} knows one attribute, and {len(study.pairs)} pairs are given",
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
    filled = (study.group_sizes > 0).unflatten(0, (-1, 2))
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
