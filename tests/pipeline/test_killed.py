"""A process killed while it embeds, which no handler sees, leaves nothing that a later run would take for whole."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from despur.backbones.protocol import Backbone
from despur.birdland.models import as_backbone, new_small
from despur.data.examples import Dataset
from despur.data.folder import load_folder
from despur.features.engine import EmbedSettings
from despur.pipeline import ModelSettings, embed_stage
from despur.workspace import Workspace

IMAGES, SMALL = 320, EmbedSettings(batch_size=4, shard_rows=8, workers=2)
MODEL = ModelSettings(spec="birdland:vit", random_weights=True)

EMBED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import torch
torch.set_num_threads(1)
from test_killed import embed, load_folder, model
dataset, backbone = load_folder(Path(sys.argv[1])), model()
print("ready", flush=True)
embed(dataset, backbone, Path(sys.argv[2]))
"""


def model() -> Backbone:
    return as_backbone(new_small("vit", seed=0))


def embed(dataset: Dataset, backbone: Backbone, root: Path) -> Path:
    """The features' folder of a workspace, after embedding what was missing there."""
    workspace = Workspace.create(root)
    with workspace.lock():
        embed_stage(workspace, dataset, backbone, MODEL, settings=SMALL)
    return workspace.path("features")


def contents(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.blake2b(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def written(folder: Path) -> dict[str, int]:
    """When each shard that is there was written."""
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("shard-*.npy")}


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of small images, no two alike: more than threads decode, so that workers are orphaned too."""
    root = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        file = root / ("cat", "dog")[number % 2] / f"{number:03d}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)
    return root


@pytest.fixture(scope="module")
def undisturbed(noise: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    """What an embedding leaves that nothing stopped, and how many seconds it took."""
    start = time.perf_counter()
    folder = embed(load_folder(noise), model(), tmp_path_factory.mktemp("undisturbed") / "work")
    return contents(folder), time.perf_counter() - start


@pytest.mark.parametrize("moment", [1, 2, *(pytest.param(moment, marks=pytest.mark.slow) for moment in range(3, 11))])
def test_a_killed_embedding_goes_on_and_ends_with_the_same_bytes(
    moment: int, noise: Path, undisturbed: tuple[dict[str, str], float], tmp_path: Path
) -> None:
    whole, seconds = undisturbed
    root = tmp_path / "work"
    command = [sys.executable, "-c", EMBED, str(noise), str(root), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(float(np.random.default_rng(moment).uniform(0, seconds)))
        process.kill()
    before = written(root / "features")
    after = written(embed(load_folder(noise), model(), root))
    assert contents(root / "features") == whole
    assert sum(after[name] != before[name] for name in before) <= 1, "only the shard in hand is computed again"
