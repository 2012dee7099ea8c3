"""What the pre-training captions say: a template filled with the subject, the subject in its context, or the context.

The captions carry the shortcut. A scene's subject and its context (a waterbird on water, a teapot with a cup) nearly
always come together, and a caption may name either; a contrastive model is then paid as well for seeing the easy one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class CaptionMix(BaseModel):
    """How often a caption names what, as weights that need not add up to 1.

    Attributes:
        subject: the subject alone ("waterbird").
        both: the subject in its context ("waterbird on water").
        context: the context alone ("water").
        thing: something else that lies about ("boat").
    """

    model_config = ConfigDict(frozen=True)

    subject: float = Field(default=0.5, ge=0.0)
    both: float = Field(default=0.3, ge=0.0)
    context: float = Field(default=0.2, ge=0.0)
    thing: float = Field(default=0.05, ge=0.0)


@dataclass(frozen=True)
class Shown:
    """What a scene shows, in words.

    Attributes:
        subject: the bird or the object that the scene is about.
        context: what it comes with: a place ("water") or companions ("cup"); may be empty.
        relation: how the two are joined in a caption: "on" a place, "with" a companion.
        things: whatever else can be named.
    """

    subject: str
    context: tuple[str, ...]
    relation: str
    things: tuple[str, ...] = ()


def phrases_of(shown: Shown, mix: CaptionMix) -> list[tuple[str, float]]:
    """The phrases that a caption of the scene may hold, each with its weight; the weights add up to 1.

    What the scene lacks cannot be named: its weight goes to the rest in proportion.
    """
    choices: list[tuple[str, float]] = [(shown.subject, mix.subject)]
    for context in shown.context:
        share = 1.0 / len(shown.context)
        choices.append((f"{shown.subject} {shown.relation} {context}", mix.both * share))
        choices.append((context, mix.context * share))
    choices += [(thing, mix.thing / len(shown.things)) for thing in shown.things]
    total = sum(weight for _, weight in choices)
    return [(phrase, weight / total) for phrase, weight in choices if weight > 0.0]


@dataclass(frozen=True)
class CaptionTable:
    """The phrases of many scenes as tensors, so that an epoch's captions are one draw.

    Attributes:
        phrases: every phrase that occurs, sorted.
        choices: places in ``phrases``, [scenes, choices]; rows are padded with 0 at weight 0.
        weights: the chance of each choice, [scenes, choices]; rows add up to 1.
    """

    phrases: tuple[str, ...]
    choices: Int[Tensor, "scenes choices"]
    weights: Float[Tensor, "scenes choices"]

    def draw(self, generator: torch.Generator) -> Int[Tensor, "scenes"]:
        """One phrase for every scene, as a place in ``phrases``."""
        chosen = torch.multinomial(self.weights, 1, generator=generator)
        return self.choices.gather(1, chosen).squeeze(1)


def caption_table(weighted: Sequence[Sequence[tuple[str, float]]]) -> CaptionTable:
    """Gather the weighted phrases of every scene into tensors."""
    phrases = tuple(sorted({phrase for choices in weighted for phrase, _ in choices}))
    place = {phrase: index for index, phrase in enumerate(phrases)}
    width = max(len(choices) for choices in weighted)
    ids = torch.zeros(len(weighted), width, dtype=torch.long)
    weights = torch.zeros(len(weighted), width)
    for row, choices in enumerate(weighted):
        ids[row, : len(choices)] = torch.tensor([place[phrase] for phrase, _ in choices])
        weights[row, : len(choices)] = torch.tensor([weight for _, weight in choices])
    return CaptionTable(phrases, ids, weights)
