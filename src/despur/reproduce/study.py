"""The studies behind the paper's tables: which models, methods and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from despur.errors import SettingsError, nearest
from despur.pipeline.settings import StudySettings, checked
from despur.reproduce.published import TABLE_4, TABLE_5, VIT_L

MODELS = ("open_clip:RN50/openai", "open_clip:ViT-L-14-336/openai")

METHODS = tuple(dict.fromkeys(row.method for row in TABLE_4 if row.method != "pretrained"))

PAIR_METHODS = tuple(row.method for row in TABLE_5 if row.method != "pretrained")

ABLATION = ("clip", "clip+lc", "clip+vc", "clip+ls", "clip+vs", "clip+lc+vc", "clip+lc+vc+ls", "clip+lc+vc+vs")
"""L_CLIP with each term alone, and as terms are added up to the two recipes."""

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "paper": {"learning_rate": 1e-5, "weight_decay": 1e-4, "epochs": 300},
    "released": {
        "learning_rate": 1e-4,
        "weight_decay": 1e-5,
        "epochs": 300,
        "similarity": "cosine",
        "released_indexing": True,
    },
    "tuned": {},
}
"""How the paper says that it trains, how its released commands do (they retrain a ResNet's attention pool), and each
method with the best of ``TRIED`` settings by validation."""

TRIED = 16
"""Settings a method that ``tuned`` draws; the same number for each, so that none is favoured."""

PAIR = ("n03825788", "n04557648")
"""Baby pacifier and water bottle."""

BATCH_OF_VIT_L = 32
"""The paper's batch for the large ViT; it is 128 for RN50."""


@dataclass(frozen=True)
class Choices:
    """What a user may say of every study.

    Attributes:
        models: specs; the large ViT gets its own batch size.
        recipe: one of ``RECIPES``.
        seeds: runs of each method.
        epochs: other than the paper's 300.
        random_weights: for a trial of the way without weights.
        seed: the first of those seeds, and of every other draw.
    """

    models: Sequence[str] = MODELS
    recipe: str = "paper"
    seeds: int = 1
    epochs: int | None = None
    random_weights: bool = False
    seed: int = 0


def waterbirds_study(
    waterbirds: Path,
    workspace: Path,
    choices: Choices | None = None,
    *,
    masks: Path | None = None,
    ablation: bool = False,
) -> StudySettings:
    """What ``despur run`` would be told for Tables 2 and 4.

    Args:
        waterbirds: the download.
        workspace: where everything is kept, so that a stopped reproduction goes on.
        masks: CUB's ``segmentations/``, for AIoU; None: looked for beside the download.
        ablation: train every combination of terms too.

    Raises:
        SettingsError: there is no such recipe, a model or a number is not what it should be, or the released recipe is
            asked for a ResNet beside another model, of which it retrains different parts.
    """
    methods = tuple(dict.fromkeys((*METHODS, *(ABLATION if ablation else ()))))
    return _study(waterbirds_dataset(waterbirds, masks), workspace, choices or Choices(), methods)


def waterbirds_dataset(waterbirds: Path, masks: Path | None = None) -> str:
    """The spec of the download."""
    return f"waterbirds:{waterbirds}" + ("" if masks is None else f",masks={masks.absolute()}")


def pair_dataset(imagenet: Path, attribute: str = "", detections: Path | None = None) -> str:
    """The spec of Table 5's two classes; with detections, those say which images show the attribute."""
    said = "" if detections is None else f",attributes={detections.absolute()},attribute={attribute}"
    return f"imagenet:{imagenet},classes={','.join(PAIR)}{said}"


def pair_study(dataset: str, workspace: Path, choices: Choices) -> StudySettings:
    """The same for Table 5, over a dataset of :func:`pair_dataset`.

    Raises:
        SettingsError: as for :func:`waterbirds_study`.
    """
    return _study(dataset, workspace, choices, PAIR_METHODS)


def recipe_of(name: str) -> Mapping[str, Any]:
    """What a recipe says of training.

    Raises:
        SettingsError: there is no such recipe.
    """
    if name not in RECIPES:
        raise SettingsError(f"there are no settings {name!r}", where="reproduce", now=nearest(name, list(RECIPES)))
    return RECIPES[name]


def _study(dataset: str, workspace: Path, choices: Choices, methods: Sequence[str]) -> StudySettings:
    recipe, models = choices.recipe, choices.models
    settings = recipe_of(recipe)
    resnets = [is_resnet(spec) for spec in models]
    if recipe == "released" and any(resnets) and not all(resnets):
        raise SettingsError(
            "the released commands retrain a ResNet's attention pool and a ViT's projection, a study one part",
            where="reproduce",
            now="name one --model, and a workspace of its own for the other",
        )
    train = {**settings, **({} if choices.epochs is None else {"epochs": choices.epochs})}
    large = {spec: {name: {"batch_size": BATCH_OF_VIT_L} for name in methods} for spec in models if VIT_L in spec}
    return checked(
        StudySettings,
        {
            "dataset": dataset,
            "models": tuple(models),
            "workspace": workspace,
            "random_weights": choices.random_weights,
            "seed": choices.seed,
            "trainable": "attention-pool" if recipe == "released" and all(resnets) else "projection",
            "tune": TRIED if recipe == "tuned" else None,
            # The paper has no checks of its maps, and they are most of what explaining a large ViT costs.
            "explain": {"checks": 0},
            "mitigate": {"methods": methods, "seeds": choices.seeds, "train": train, "by_model": large},
        },
        where="reproduce",
    )


def is_resnet(spec: str) -> bool:
    """Whether a model's spec names a ResNet."""
    return ":RN" in spec or spec == "birdland:resnet"
