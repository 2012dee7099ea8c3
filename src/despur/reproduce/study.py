"""The study behind the paper's tables on Waterbirds: which models, methods and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from despur.errors import SettingsError, nearest
from despur.pipeline.settings import StudySettings, checked
from despur.reproduce.published import TABLE_4, VIT_L

TABLES = ("table1", "table2", "table4")

MODELS = ("open_clip:RN50/openai", "open_clip:ViT-L-14-336/openai")

METHODS = tuple(dict.fromkeys(row.method for row in TABLE_4 if row.method != "pretrained"))

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "paper": {"learning_rate": 1e-5, "weight_decay": 1e-4, "epochs": 300},
    "released": {
        "learning_rate": 1e-4,
        "weight_decay": 1e-5,
        "epochs": 300,
        "similarity": "cosine",
        "released_indexing": True,
    },
}
"""How the paper says that it trains, and how its released commands do. The latter retrain a ResNet's attention pool."""

BATCH_OF_VIT_L = 32
"""The paper's batch for the large ViT; it is 128 for RN50."""


def waterbirds_study(
    waterbirds: Path,
    workspace: Path,
    *,
    masks: Path | None = None,
    models: Sequence[str] = MODELS,
    recipe: str = "paper",
    seeds: int = 1,
    epochs: int | None = None,
    random_weights: bool = False,
) -> StudySettings:
    """What ``despur run`` would be told.

    Args:
        waterbirds: the download.
        workspace: where everything is kept, so that a stopped reproduction goes on.
        masks: CUB's ``segmentations/``, for AIoU; None: looked for beside the download.
        models: specs; the large ViT gets its own batch size.
        recipe: one of ``RECIPES``.
        seeds: runs of each method.
        epochs: other than the paper's 300.
        random_weights: for a trial of the way without weights.

    Raises:
        SettingsError: there is no such recipe, a model or a number is not what it should be, or the released recipe is
            asked for a ResNet beside another model, of which it retrains different parts.
    """
    if recipe not in RECIPES:
        raise SettingsError(f"there are no settings {recipe!r}", where="reproduce", now=nearest(recipe, list(RECIPES)))
    resnets = [":RN" in spec or spec == "birdland:resnet" for spec in models]
    if recipe == "released" and any(resnets) and not all(resnets):
        raise SettingsError(
            "the released commands retrain a ResNet's attention pool and a ViT's projection, a study one part",
            where="reproduce",
            now="name one --model, and a workspace of its own for the other",
        )
    train = {**RECIPES[recipe], **({} if epochs is None else {"epochs": epochs})}
    large = {spec: {name: {"batch_size": BATCH_OF_VIT_L} for name in METHODS} for spec in models if VIT_L in spec}
    return checked(
        StudySettings,
        {
            "dataset": f"waterbirds:{waterbirds}" + ("" if masks is None else f",masks={masks}"),
            "models": tuple(models),
            "workspace": workspace,
            "random_weights": random_weights,
            "trainable": "attention-pool" if recipe == "released" and all(resnets) else "projection",
            "mitigate": {"methods": METHODS, "seeds": seeds, "train": train, "by_model": large},
        },
        where="reproduce",
    )
