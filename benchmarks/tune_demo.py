"""Chooses the demo's settings: the same search for every method, by validation worst group.

    python benchmarks/tune_demo.py WORK/birdland_resnet WORK/birdland_vit [--budget 16] [--json]

Every method gets the same number of settings (points of a Sobol sequence over its learning rate, weight decay and the
weights of its terms), the same seeds and the same epochs; the setting with the highest mean validation worst group is
written to ``src/despur/pipeline/demo_settings.json``, from where the demo reads it. The test split is not looked at.
WORK is what ``despur demo`` left: embedded images are all that is read.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from despur.mitigate.methods import find_method
from despur.mitigate.settings import TrainSettings
from despur.mitigate.trainer import DivergedError, train
from despur.mitigate.tuning import draw_settings, search_space
from despur.pipeline.chosen import validation_worst_group
from despur.pipeline.demo import EPOCHS, SETTINGS_FILE
from despur.pipeline.embedded import Embedded
from despur.pipeline.settings import PAPER_METHODS
from despur.pipeline.studying import make_study
from despur.workspace import Workspace, write_json

SEEDS = (100, 101)
"""Not the demo's own seeds."""
_STACK = 4


def search(workspace: Path, budget: int) -> dict[str, dict[str, Any]]:
    """The best settings of every method on one model's features, and what they reached on validation."""
    embedded = Embedded(Workspace.open(workspace), torch.device("cpu"))
    study = make_study(embedded, embedded.dataset.attribute())
    found: dict[str, dict[str, Any]] = {}
    for name in PAPER_METHODS:
        method = find_method(name)
        base = TrainSettings.checked(method.settings, epochs=EPOCHS)
        scored: list[tuple[float, TrainSettings]] = []
        for grid in stacks(draw_settings(method, base, budget)) if method.terms(base) else ():
            try:
                runs = train(study, method, grid, seeds=SEEDS)
            except DivergedError as problem:
                runs = problem.runs
            for settings in grid:
                own = [run for run in runs if run.settings == settings]
                scored.append((fmean(validation_worst_group(run) for run in own) if own else 0.0, settings))
        if not scored:
            continue
        score, best = max(scored, key=lambda pair: pair[0])
        searched = best.model_dump(include={axis.split(".")[0] for axis in search_space(method, base)})
        found[name] = {"settings": rounded(searched), "validation_worst_group": round(score, 4)}
        scores = sorted(score for score, _ in scored)
        print(
            f"{workspace.name} {name}: best {100 * score:.1f}, median {100 * scores[len(scores) // 2]:.1f}, {searched}",
            file=sys.stderr,
        )
    return found


def stacks(settings: list[TrainSettings]) -> list[list[TrainSettings]]:
    """Settings in portions that are trained together."""
    return [settings[start : start + _STACK] for start in range(0, len(settings), _STACK)]


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Three digits are more than a search of this size can tell apart."""
    return {
        name: rounded(value) if isinstance(value, dict) else float(f"{value:.3g}") for name, value in values.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspaces", nargs="+", type=Path)
    parser.add_argument("--budget", type=int, default=16, help="settings a method")
    parser.add_argument("--json", action="store_true", help="print the choice as one JSON object")
    arguments = parser.parse_args()
    chosen = {
        Workspace.open(folder).about()["model"]: search(folder, arguments.budget) for folder in arguments.workspaces
    }
    about = {"epochs": EPOCHS, "budget": arguments.budget, "seeds": list(SEEDS), "chosen": chosen}
    before = json.loads(SETTINGS_FILE.read_text(encoding="utf-8"))
    if {**before, "chosen": chosen} == about:
        # Other models were searched in the same way: what was found for them stands.
        about["chosen"] = {**before["chosen"], **chosen}
    write_json(SETTINGS_FILE, about)
    if arguments.json:
        print(json.dumps(about))


if __name__ == "__main__":
    main()
