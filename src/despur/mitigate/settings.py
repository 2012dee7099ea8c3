"""What can be chosen about training: one frozen model, the same in Python, in a study file and on the command line."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from despur.errors import SettingsError, nearest
from despur.mitigate.losses import Duplicates

Similarity = Literal["contrastive", "cosine"]
Selection = Literal["worst-group", "average"]

STACKED = ("weights", "options", "learning_rate", "weight_decay")
"""Settings that may differ between runs trained in one stack; all others decide shapes or the computation itself."""


class TrainSettings(BaseModel):
    """How projections are retrained. The defaults are the paper's (METHOD section 2).

    Attributes:
        weights: weight of each loss term; a term that is not named has weight 1.
        options: numbers that only one method has, by name ("upweight" of JTT); its default where not named.
        similarity: "contrastive", the paper's equations, or "cosine", what its released code computes.
        released_indexing: with "cosine", index the language terms as the released code does (see ``cosine.py``).
        absolute: with "cosine", take the absolute value of cosines between different labels.
        duplicates: what another image's text of the same class is to the CLIP loss.
        clip_text: the text that an image is paired with in the CLIP loss. "average": its class's vector over all
            templates, the one that also classifies; "template": one prompt of its class, of a random
            template each step.
        learning_rate, weight_decay, momentum: of SGD. The temperature does not decay.
        batch_size: images a step; what does not fill a batch at an epoch's end is left out.
        epochs: passes over the training images.
        shuffle_within: images that are drawn together, in blocks of neighbours that are shuffled; an epoch goes through
            one such window after the other. None: all images at once, which must then fit in memory.
        train_text: train the text projection too.
        train_temperature: train τ too.
        selection: the validation accuracy whose best epoch is kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    options: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    similarity: Similarity = "contrastive"
    released_indexing: bool = False
    absolute: bool = False
    duplicates: Duplicates = "negatives"
    clip_text: Literal["average", "template"] = "average"
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    batch_size: Annotated[int, Field(ge=1)] = 128
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 300
    shuffle_within: Annotated[int, Field(ge=1)] | None = None
    train_text: bool = True
    train_temperature: bool = True
    selection: Selection = "worst-group"

    @classmethod
    def checked(cls, base: TrainSettings | None = None, **changes: object) -> TrainSettings:
        """Settings from what a user gave, on top of a method's own.

        Raises:
            SettingsError: an unknown name or a value that means nothing.
        """
        try:
            return cls.model_validate({**(base.model_dump() if base else {}), **changes})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                raise SettingsError(
                    f"there is no setting {name!r}", where="training", now=nearest(name, list(cls.model_fields))
                ) from error
            raise SettingsError(f"{name} = {first['input']!r}: {first['msg'].lower()}", where="training") from error
