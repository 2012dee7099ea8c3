"""The command line, run in this process on a small birdland."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from despur.cli import app

Despur = Callable[..., Any]


@pytest.fixture(scope="session")
def despur() -> Despur:
    """Runs one command line; the result has ``exit_code``, ``stdout`` and ``stderr``."""
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="session")
def embedded(birds: Path, despur: Despur, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the small ViT's features of ``birds``; copy before changing."""
    work = tmp_path_factory.mktemp("cli") / "work"
    result = despur("embed", f"waterbirds:{birds}", "--model", "birdland:vit", "-w", work)
    assert result.exit_code == 0, result.stderr
    return work


@pytest.fixture
def own_work(embedded: Path, tmp_path: Path) -> Path:
    """A copy of it to go on with."""
    return Path(shutil.copytree(embedded, tmp_path / "work"))


@pytest.fixture(scope="session")
def refused() -> Callable[..., None]:
    """Checks that a command was refused with one sentence that says all of this, and no traceback."""

    def check(result: Any, *said: str) -> None:
        assert result.exit_code == 2
        lines = [line for line in result.stderr.splitlines() if line.startswith("despur: ")]
        assert len(lines) == 1
        assert "Traceback" not in result.stderr
        for words in said:
            assert words in lines[0]

    return check
