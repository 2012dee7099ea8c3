"""The demo's study: a small model on birdland, every row of Table 4 and ERM with the class prior."""

from __future__ import annotations

import json
from pathlib import Path

from despur.pipeline.settings import PAPER_METHODS, ExplainSettings, MitigateSettings, StudySettings

MODELS = ("birdland:resnet", "birdland:vit")

EPOCHS = 40
"""Small models on small features settle within a tenth of the paper's 300."""

SCALE, QUICK_SCALE = 0.4, 0.2
"""Parts of Table 1's counts that are drawn, with its proportions."""

SETTINGS_FILE = Path(__file__).with_name("demo_settings.json")
"""Each method's settings by model, as ``benchmarks/tune_demo.py`` chose it on validation."""


def demo_study(folder: Path, *, quick: bool = False, seed: int = 0) -> StudySettings:
    """What ``despur demo`` runs.

    Args:
        folder: where everything is written.
        quick: one model, one seed, fewer scenes, fewer explained images.
        seed: of the world and of the first run.
    """
    chosen = json.loads(SETTINGS_FILE.read_text(encoding="utf-8"))["chosen"]
    by_model = {
        model: {method: found["settings"] for method, found in methods.items()} for model, methods in chosen.items()
    }
    return StudySettings(
        dataset=f"birdland:birds:{QUICK_SCALE if quick else SCALE}",
        models=MODELS[:1] if quick else MODELS,
        workspace=folder.resolve(),
        seed=seed,
        mitigate=MitigateSettings(
            methods=PAPER_METHODS, seeds=1 if quick else 5, seed=seed, train={"epochs": EPOCHS}, by_model=by_model
        ),
        explain=ExplainSettings(images=200 if quick else 500),
    )
