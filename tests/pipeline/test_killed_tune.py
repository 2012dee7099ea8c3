"""A search that is killed while it tries settings, which no handler sees, goes on and ends as an undisturbed one."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from despur.pipeline import MitigateSettings, mitigate_stage
from despur.pipeline.embedded import Embedded
from despur.pipeline.tuning import tune_stage
from despur.workspace import Workspace

SETTINGS = MitigateSettings(methods=("erm",), seeds=2, train={"epochs": 4, "batch_size": 16})

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


def killed(root: Path, count: int, wait: Callable[[], object]) -> None:
    """Begin a search in another process, and kill it after waiting."""
    command = [sys.executable, "-c", TUNE, str(root), str(count), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wait()
        process.kill()


@pytest.fixture
def two(finished: Embedded, tmp_path: Path) -> tuple[Path, Path]:
    """The same workspace twice, with nothing tuned."""
    one, other = (Path(shutil.copytree(finished.workspace.root, tmp_path / name)) for name in ("one", "other"))
    return one, other


def test_a_search_that_is_killed_after_its_first_rung_goes_on_with_what_that_found(two: tuple[Path, Path]) -> None:
    ledger = two[1] / "tuning" / ".erm.ledger.json"

    def first_rung() -> None:
        patience = time.monotonic() + 60
        while not ledger.exists() and time.monotonic() < patience:
            time.sleep(0.001)

    killed(two[1], 16, first_rung)
    whole = tuned(two[0], 16)
    assert {"tuning/erm.json", "runs/erm-seed1/heads.safetensors"} <= whole.keys()
    assert ledger.exists(), "it was killed before it ended"
    assert tuned(two[1], 16) == whole


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(4))
def test_a_search_that_is_killed_at_any_moment_ends_with_the_same_bytes(moment: int, two: tuple[Path, Path]) -> None:
    started = time.perf_counter()
    whole = tuned(two[0], 64)
    seconds = time.perf_counter() - started
    killed(two[1], 64, lambda: time.sleep(float(np.random.default_rng(moment).uniform(0, seconds))))
    assert tuned(two[1], 64) == whole
