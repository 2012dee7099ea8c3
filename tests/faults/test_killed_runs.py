"""``despur run`` over birdland, killed at any moment: the next run ends with the bytes of one that nothing stopped."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from despur.pipeline import StudySettings, run_study

Contents = Callable[[Path], dict[str, str]]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is copied, to be killed without a new start")

ROUNDS = 100


@pytest.fixture(scope="module")
def settings(birds: Path) -> StudySettings:
    """Everything from images to a report, in seconds; the workspace is each round's own."""
    return StudySettings.model_validate(
        {
            "dataset": f"waterbirds:{birds}",
            "models": "birdland:vit",
            "workspace": "nowhere",
            "embed": {"shard_rows": 40, "workers": 1},
            "detect": {"detector": "birdland:detector", "vocabulary": "birdland", "shard_rows": 60, "workers": 1},
            "rank": {"min_count": 1},
            "mitigate": {"methods": ["erm", "clip+lc+vc+ls"], "train": {"epochs": 2, "batch_size": 16}},
            "explain": {"images": 8, "strips": 1, "checks": 2},
        }
    )


def run(settings: StudySettings, root: Path) -> None:
    run_study(settings.model_copy(update={"workspace": root}), device=torch.device("cpu"))


def started(settings: StudySettings, root: Path) -> int:
    """The study in a process of its own; returns its number."""
    child = os.fork()
    if child == 0:
        try:
            run(settings, root)
        except BaseException:  # noqa: BLE001 - whatever it is, this copy of the tests must not go on
            os._exit(1)
        os._exit(0)
    return child


@pytest.fixture(scope="module")
def whole(
    settings: StudySettings, contents: Contents, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, str], float]:
    """What a run leaves that nothing stopped, and how many seconds it took."""
    root = tmp_path_factory.mktemp("whole") / "work"
    begin = time.perf_counter()
    _, status = os.waitpid(started(settings, root), 0)
    assert status == 0
    return contents(root), time.perf_counter() - begin


def check_rounds(
    rounds: range, settings: StudySettings, whole: tuple[dict[str, str], float], contents: Contents, folder: Path
) -> int:
    """How many of the rounds were killed before they ended; every one must end with the same bytes."""
    expected, seconds = whole
    killed = 0
    for number in rounds:
        root = folder / f"round {number}"
        child = started(settings, root)
        time.sleep(float(np.random.default_rng(number).uniform(0, seconds)))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
        _, status = os.waitpid(started(settings, root), 0)
        assert status == 0, f"round {number}"
        found = contents(root)
        assert {place for place in expected.keys() | found.keys() if expected.get(place) != found.get(place)} == set()
        assert not list(root.rglob("*.partial*"))
    return killed


def test_two_rounds_end_with_the_same_bytes(
    settings: StudySettings, whole: tuple[dict[str, str], float], contents: Contents, tmp_path: Path
) -> None:
    assert "runs/clip+lc+vc+ls-seed0/heads.safetensors" in whole[0]
    assert "discrepancies.parquet" in whole[0]
    check_rounds(range(2), settings, whole, contents, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_hundred_rounds_end_with_the_same_bytes(
    settings: StudySettings, whole: tuple[dict[str, str], float], contents: Contents, tmp_path: Path
) -> None:
    killed = check_rounds(range(ROUNDS), settings, whole, contents, tmp_path)
    assert killed > ROUNDS // 2
