"""A small birdland and an untrained small model: every stage runs on them in a second or two."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from despur.backbones.protocol import Backbone
from despur.birdland.models import as_backbone, new_small
from despur.data.examples import Dataset
from despur.data.waterbirds import load_waterbirds
from despur.pipeline import (
    ExplainSettings,
    MitigateSettings,
    ModelSettings,
    embed_stage,
    evaluate_stage,
    explain_stage,
    mitigate_stage,
    predict_stage,
)
from despur.pipeline.embedded import Embedded
from despur.workspace import Workspace

MODEL = ModelSettings(spec="birdland:vit", random_weights=True)
QUICK = MitigateSettings(methods=("erm", "clip+lc+vc+ls"), seeds=2, train={"epochs": 2, "batch_size": 16})
FEW = ExplainSettings(images=12, strips=2, batch_size=4)


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    return as_backbone(new_small("vit", seed=0))


Everything = Callable[..., Embedded]


@pytest.fixture(scope="session")
def run_everything(backbone: Backbone) -> Everything:
    """Every stage before the report, over a folder of birds into a workspace; returns what the stages read."""

    def run(folder: Path, root: Path, *, model: Backbone = backbone, **choices: object) -> Embedded:
        workspace = Workspace.create(root, dataset=f"waterbirds:{folder}", model="birdland:vit")
        dataset: Dataset = load_waterbirds(folder)
        with workspace.lock():
            embed_stage(workspace, dataset, model, MODEL, settings=choices.get("embed"))
            embedded = Embedded(workspace, torch.device("cpu"), model)
            predict_stage(embedded)
            mitigate_stage(embedded, choices.get("mitigate", QUICK))
            explain_stage(embedded, choices.get("explain", FEW))
            evaluate_stage(embedded)
        return embedded

    return run


@pytest.fixture(scope="session")
def finished(birds: Path, run_everything: Everything, tmp_path_factory: pytest.TempPathFactory) -> Embedded:
    """An undisturbed run over ``birds``; copy its folder before changing it."""
    return run_everything(birds, tmp_path_factory.mktemp("finished") / "work")


@pytest.fixture
def own_work(finished: Embedded, tmp_path: Path) -> Path:
    """A copy of that run to go on with."""
    return Path(shutil.copytree(finished.workspace.root, tmp_path / "work"))
