"""``despur embed --batch-size``: a number, or auto."""

from __future__ import annotations

import json
from pathlib import Path


def test_auto_on_a_cpu_is_the_default_so_that_nothing_is_computed_again(birds: Path, own_work: Path, despur) -> None:
    words = ("embed", f"waterbirds:{birds}", "--model", "birdland:vit", "-w", own_work, "--device", "cpu", "--json")
    result = despur(*words, "--batch-size", "auto")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["computed"] is False


def test_a_batch_size_that_is_no_number_is_refused_before_anything_is_read(tmp_path: Path, despur) -> None:
    words = ("embed", "waterbirds:nowhere", "--model", "birdland:vit", "-w", tmp_path / "work")
    for size in ("many", "0"):
        result = despur(*words, "--batch-size", size)
        assert result.exit_code == 2
        assert "batch_size" in result.stderr
