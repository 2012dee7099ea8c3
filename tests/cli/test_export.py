"""``despur export`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path


def test_a_run_becomes_a_folder_that_transformers_reads(own_work: Path, tmp_path: Path, despur) -> None:
    trained = despur("mitigate", "-w", own_work, "--method", "erm", "--epochs", 1)
    assert trained.exit_code == 0, trained.stderr
    words = ("export", "-w", own_work, "--method", "erm", "--seed", 0, "--to", "transformers", "--json")
    result = despur(*words, tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["run"] == "erm-seed0"
    assert {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"} <= set(told["files"])
    assert 0 <= told["after"]["worst_group"] <= 1
    again = despur(*words, tmp_path / "out")
    assert again.exit_code == 2
    assert "something there already" in again.stderr


def test_nothing_trained_is_nothing_to_export(own_work: Path, tmp_path: Path, despur) -> None:
    result = despur("export", "-w", own_work, tmp_path / "out")
    assert result.exit_code == 2
    assert "despur mitigate" in result.stderr
    assert not (tmp_path / "out").exists()


def test_help_shows_an_example(despur) -> None:
    assert "despur export" in despur("export", "--help").stdout
