"""The demo's study: both small models on birdland, every row of Table 4 and ERM with the class prior."""

from __future__ import annotations

from pathlib import Path

from despur.pipeline.settings import ExplainSettings, MitigateSettings, StudySettings

MODELS = ("birdland:resnet", "birdland:vit")


def demo_study(folder: Path, *, quick: bool = False, seed: int = 0) -> StudySettings:
    """What ``despur demo`` runs; ``quick``: one model, one seed, fewer explained images."""
    return StudySettings(
        dataset="birdland",
        models=MODELS[:1] if quick else MODELS,
        workspace=folder.resolve(),
        seed=seed,
        mitigate=MitigateSettings(seeds=1 if quick else 5, seed=seed, train={"epochs": 40}),
        explain=ExplainSettings(images=200 if quick else 500),
    )
