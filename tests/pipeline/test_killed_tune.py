"""A search that is killed while it tries settings, which no handler sees, goes on and ends as an undisturbed one."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from despur.pipeline import MitigateSettings, mitigate_stage
from despur.pipeline.embedded import Embedded
from despur.pipeline.tuning import tune_stage
from despur.workspace import Workspace

SETTINGS = MitigateSettings(methods=("erm", "jtt"), seeds=2, train={"epochs": 16, "batch_size": 16})

TUNE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import torch
torch.set_num_threads(1)
from test_killed_tune import tuned
print("ready", flush=True)
tuned(Path(sys.argv[1]), int(sys.argv[2]))
"""


def tuned(root: Path, count: int) -> dict[str, str]:
    """The digest of every file of a search and of the runs that follow, but for what tells the time."""
    workspace = Workspace.open(root)
    with workspace.lock():
        embedded = Embedded(workspace, torch.device("cpu"))
        mitigate_stage(embedded, tune_stage(embedded, SETTINGS, count))
    files = [*workspace.path("tuning").glob("*"), *workspace.path("runs").glob("*-seed*/h*")]
    return {str(file.relative_to(root)): hashlib.blake2b(file.read_bytes()).hexdigest() for file in sorted(files)}


@pytest.mark.parametrize(
    ("moment", "count"),
    [(1, 4), *(pytest.param(moment, 64, marks=pytest.mark.slow) for moment in range(2, 6))],
)
def test_a_killed_search_goes_on_and_ends_with_the_same_bytes(
    moment: int, count: int, finished: Embedded, tmp_path: Path
) -> None:
    one, other = (Path(shutil.copytree(finished.workspace.root, tmp_path / name)) for name in ("one", "other"))
    started = time.perf_counter()
    whole = tuned(one, count)
    seconds = time.perf_counter() - started
    assert {"tuning/erm.json", "tuning/jtt.json", "runs/jtt-seed1/heads.safetensors"} <= whole.keys()
    command = [sys.executable, "-c", TUNE, str(other), str(count), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(float(np.random.default_rng(moment).uniform(0, seconds)))
        process.kill()
    assert tuned(other, count) == whole
