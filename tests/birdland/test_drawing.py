"""Scenes drawn side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from despur.birdland.write import write_birds
from despur.errors import DataError

SCRIPT = """
import sys
from pathlib import Path
from despur.birdland.write import write_birds
print("started")
write_birds(Path(sys.argv[1]), scale=0.02, workers=2)
"""


@pytest.mark.parametrize("asked", ["a file", "stdin"])
def test_a_script_without_a_main_guard_draws_with_workers_and_runs_once(asked: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    words = [str(script)] if asked == "a file" else ["-"]
    done = subprocess.run(
        [sys.executable, *words, str(tmp_path / "world")],
        input=SCRIPT if asked == "stdin" else None,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "started\n", "")
    assert (tmp_path / "world" / "metadata.csv").is_file()


def test_a_worker_that_is_killed_is_told_and_the_same_call_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def popen(*words: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(start(*words, **options))
        os.kill(started[0].pid, signal.SIGKILL)
        return started[-1]

    monkeypatch.setattr("despur.birdland.drawing.subprocess.Popen", popen)
    with pytest.raises(DataError, match="was ended; run the same command again"):
        write_birds(tmp_path / "world", scale=0.02, workers=2)
    assert all(process.poll() is not None for process in started)
    write_birds(tmp_path / "world", scale=0.02, workers=1)
    assert (tmp_path / "world" / "metadata.csv").is_file()


def test_stopped_in_between_no_worker_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def popen(*words: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(start(*words, **options))
        return started[-1]

    def stops(steps: Iterator[None], **_: object) -> Iterator[None]:
        yield next(steps)
        raise KeyboardInterrupt

    monkeypatch.setattr("despur.birdland.drawing.subprocess.Popen", popen)
    with pytest.raises(KeyboardInterrupt):
        write_birds(tmp_path / "world", scale=0.02, workers=2, progress=stops)
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
    assert not (tmp_path / "world" / "metadata.csv").exists()
