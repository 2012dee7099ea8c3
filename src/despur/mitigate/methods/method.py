"""What a mitigation method is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from despur.backbones.heads import Heads
from despur.errors import SettingsError, nearest
from despur.mitigate.batches import Sampler, shuffled
from despur.mitigate.objective import Term
from despur.mitigate.settings import TrainSettings
from despur.mitigate.study import Study


@dataclass(frozen=True)
class Option:
    """A number that only one method has: its default, and the range that a search may try.

    Attributes:
        logarithmic: whether the range is searched evenly in its logarithm.
        least, most: outside of these it means nothing, or nothing that single precision can hold.
    """

    default: float
    low: float
    high: float
    logarithmic: bool = True
    least: float = 0.0
    most: float = 1e6


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
            SettingsError: an option is given that the method has not, or a value of one that means nothing.
        """
        for name in settings.options.keys() - self.options.keys():
            hint = nearest(name, list(self.options)) if self.options else "it has none"
            raise SettingsError(f"{self.name} has no option {name!r}", where="options", now=hint)
        for name, value in settings.options.items():
            option = self.options[name]
            if not option.least <= value <= option.most:
                limits = f"give a number from {option.least:g} to {option.most:g}"
                raise SettingsError(f"{self.name}'s {name} cannot be {value:g}", where="options", now=limits)
        defaults = {name: option.default for name, option in self.options.items()}
        return settings.model_copy(update={"options": {**defaults, **settings.options}})


def no_terms(settings: TrainSettings) -> Mapping[str, Term]:
    """For methods that train nothing step by step."""
    return {}
