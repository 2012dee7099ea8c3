"""Chooses the demo's learning rates: the same search for every method, by validation worst group.

    python benchmarks/tune_demo.py WORK/birdland_resnet WORK/birdland_vit [--json]

Every method gets the same settings (a grid of learning rates), the same seeds and the same epochs; the setting with the
highest mean validation worst group is written to ``src/despur/pipeline/demo_settings.json``, from where the demo reads
it. The test split is not looked at. WORK is what ``despur demo`` left: embedded images are all that is read.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import fmean

import torch

from despur.mitigate.methods import find_method
from despur.mitigate.settings import TrainSettings
from despur.mitigate.trainer import DivergedError, train
from despur.pipeline.chosen import validation_worst_group
from despur.pipeline.demo import EPOCHS, SETTINGS_FILE
from despur.pipeline.embedded import Embedded
from despur.pipeline.settings import DEFAULT_METHODS
from despur.pipeline.training import make_study
from despur.workspace import Workspace, write_json

LEARNING_RATES = (1e-3, 1e-2, 1e-1, 1.0)
SEEDS = (100,)
"""Not one of the demo's own seeds."""


def search(workspace: Path) -> dict[str, dict[str, float]]:
    """The best learning rate of every method on one model's features, and what it reached on validation."""
    embedded = Embedded(Workspace.open(workspace), torch.device("cpu"))
    study = make_study(embedded, embedded.dataset.attribute())
    found: dict[str, dict[str, float]] = {}
    for name in DEFAULT_METHODS:
        method = find_method(name)
        grid = [TrainSettings.checked(method.settings, learning_rate=rate, epochs=EPOCHS) for rate in LEARNING_RATES]
        try:
            runs = train(study, method, grid, seeds=SEEDS)
        except DivergedError as problem:
            runs = problem.runs
        scores = {
            rate: fmean(validation_worst_group(run) for run in runs if run.settings.learning_rate == rate)
            for rate in LEARNING_RATES
        }
        best = max(scores, key=lambda rate: scores[rate])
        found[name] = {"learning_rate": best, "validation_worst_group": scores[best]}
        shown = "  ".join(f"{rate:g}: {100 * score:.1f}" for rate, score in scores.items())
        print(f"{workspace.name} {name}: {shown}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspaces", nargs="+", type=Path)
    parser.add_argument("--json", action="store_true", help="print the choice as one JSON object")
    arguments = parser.parse_args()
    chosen = {Workspace.open(folder).about()["model"]: search(folder) for folder in arguments.workspaces}
    about = {"epochs": EPOCHS, "learning_rates": LEARNING_RATES, "seeds": SEEDS, "chosen": chosen}
    write_json(SETTINGS_FILE, about)
    if arguments.json:
        print(json.dumps(about))


if __name__ == "__main__":
    main()
