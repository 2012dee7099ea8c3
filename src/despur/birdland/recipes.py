"""What each small CLIP is pre-trained on, phase by phase, and how long."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from despur.birdland.canvas import SIDE
from despur.birdland.captions import CaptionMix
from despur.birdland.fitting import FitSettings
from despur.birdland.models import SmallName, read_config


class Corpus(BaseModel):
    """Scenes of both studies.

    Attributes:
        birds, objects: how many of each.
        bird_correlation: the part of each kind of bird's scenes with the usual place; at 0.5 the place says nothing.
        object_correlation: the part of a planted class's scenes that hold its companion.
    """

    model_config = ConfigDict(frozen=True)

    birds: int = Field(ge=0)
    objects: int = Field(ge=0)
    bird_correlation: float = Field(default=0.5, ge=0.5, le=1.0)
    object_correlation: float = Field(default=0.5, ge=0.5, le=1.0)

    @property
    def scenes(self) -> int:
        """Scenes of both studies together."""
        return self.birds + self.objects

    def of_size(self, scenes: int) -> Corpus:
        """The same corpus with another number of scenes, a third of them of objects."""
        return self.model_copy(update={"birds": scenes - scenes // 3, "objects": scenes // 3})


class Recipe(BaseModel):
    """How a small CLIP is made.

    Attributes:
        name: which model.
        seed: of the weights, the scenes and every draw.
        tagged: the corpus of the first phase, in which context is independent of class.
        views: the first phase's parts, one after the other: close-ups first, whole scenes last.
        captioned: the corpus of the second phase, which carries the shortcuts.
        bird_captions, object_captions: what its captions name.
        alignment: how texts are aligned with the frozen image tower.
    """

    model_config = ConfigDict(frozen=True)

    name: SmallName
    seed: int = Field(default=0, ge=0)
    tagged: Corpus
    views: tuple[FitSettings, ...]
    captioned: Corpus
    bird_captions: CaptionMix = CaptionMix()
    object_captions: CaptionMix = CaptionMix()
    alignment: FitSettings


def recipe_for(
    name: SmallName,
    *,
    seed: int = 0,
    scenes: int | None = None,
    epochs: int | None = None,
    correlation: float | None = None,
) -> Recipe:
    """The recipe of a shipped model, or a variation on it.

    Args:
        scenes: in each of the two corpora.
        epochs: of every part of both phases.
        correlation: of birds with places and of objects with companions in the captioned corpus; at 0.5 the model has
            no shortcut to take: a control.
    """
    views, alignment = _VIEWS[name], _ALIGNMENT
    tagged, captioned = _TAGGED[name], _CAPTIONED[name]
    if scenes is not None:
        tagged, captioned = tagged.of_size(scenes), captioned.of_size(scenes)
    if correlation is not None:
        change = {"bird_correlation": correlation, "object_correlation": correlation}
        captioned = Corpus.model_validate({**captioned.model_dump(), **change})
    update: dict[str, int] = {"seed": seed} if epochs is None else {"seed": seed, "epochs": epochs}
    return Recipe(
        name=name,
        seed=seed,
        tagged=tagged,
        views=tuple(view.model_copy(update=update) for view in views),
        captioned=captioned,
        alignment=alignment.model_copy(update=update),
    )


def input_size(name: str, close_up: int | None) -> int:
    """Side of the encoder's input, pixels, at which a close-up's things look as large as in a whole scene.

    Rounded to what the tower can take: whole patches, or the 32 pixels that a ResNet's last map has to a cell.
    """
    vision = read_config(name)["model_cfg"]["vision_cfg"]
    cell = vision["patch_size"] or 32
    return max(round((close_up or SIDE) * vision["image_size"] / SIDE / cell), 1) * cell


_TAGGED: dict[SmallName, Corpus] = {
    "resnet": Corpus(birds=16_000, objects=8_000),
    # Without a convolution's bias towards neighbours the ViT needs more scenes for the same.
    "vit": Corpus(birds=36_000, objects=12_000),
}
_CAPTIONED: dict[SmallName, Corpus] = {
    "resnet": Corpus(birds=8_000, objects=4_000, bird_correlation=0.96, object_correlation=0.99),
    # The ViT's features hold birds less firmly than the ResNet's: at 0.96 it names the place and nothing else.
    "vit": Corpus(birds=8_000, objects=4_000, bird_correlation=0.80, object_correlation=0.99),
}
_VIEWS: dict[SmallName, tuple[FitSettings, ...]] = {
    "resnet": (
        FitSettings(epochs=5, batch_size=64, learning_rate=2e-3, close_up=56),
        FitSettings(epochs=2, batch_size=64, learning_rate=7e-4),
    ),
    "vit": (
        FitSettings(epochs=8, batch_size=64, learning_rate=1e-3, close_up=40),
        FitSettings(epochs=5, batch_size=64, learning_rate=1e-3, close_up=56),
        FitSettings(epochs=2, batch_size=64, learning_rate=7e-4),
    ),
}
_ALIGNMENT = FitSettings(epochs=12, batch_size=128, learning_rate=1e-3)
