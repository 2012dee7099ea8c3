"""The commands one after another, as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "duckdb", "fastapi", "ray", "open_clip", "plotly")


def loaded_after(code: str) -> set[str]:
    """Heavy libraries that are imported once ``code`` has run in a fresh Python."""
    script = f"{code}\nimport sys; print('|', *(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("|")[2].split())


def test_importing_despur_imports_nothing_heavy() -> None:
    assert loaded_after("import despur") == set()


def test_help_imports_nothing_heavy() -> None:
    code = "from despur.cli import app\ntry:\n    app(['--help'])\nexcept SystemExit:\n    pass"
    assert loaded_after(code) == set()


def test_every_stage_in_turn_ends_in_a_report(own_work: Path, despur) -> None:
    for words in (
        ("predict",),
        ("mitigate", "--method", "erm", "--losses", "clip,lc,vc,ls", "--epochs", 2, "--seeds", 2),
        ("evaluate",),
        ("explain", "--images", 10, "--strips", 1),
        ("report",),
    ):
        result = despur(words[0], "-w", own_work, *words[1:])
        assert result.exit_code == 0, result.stderr
    page = (own_work / "report.html").read_text()
    assert "clip + lc + vc + ls" in page
    assert "drawn at random (seed 0)" in page


def test_json_is_one_object_on_stdout(own_work: Path, despur) -> None:
    result = despur("predict", "-w", own_work, "--json")
    answer = json.loads(result.stdout)
    assert answer["images"] == 119
    assert 0 <= answer["accuracy"] <= 1


def test_embedding_again_says_that_nothing_was_to_be_done(own_work: Path, birds: Path, despur) -> None:
    result = despur("embed", f"waterbirds:{birds}", "--model", "birdland:vit", "-w", own_work, "--json")
    assert json.loads(result.stdout)["computed"] is False


def test_run_does_a_whole_study_from_a_file(birds: Path, tmp_path: Path, despur) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(
        f"dataset: waterbirds:{birds}\n"
        "models: [birdland:vit, birdland:resnet]\n"
        "workspace: work\n"
        "mitigate: {methods: [erm], seeds: 1, train: {epochs: 1}}\n"
        "explain: {images: 4, strips: 1}\n"
    )
    result = despur("run", study, "--json")
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)["rows"]
    assert [(row["model"], row["method"]) for row in rows] == [
        (model, method) for model in ("birdland:vit", "birdland:resnet") for method in ("pretrained", "erm")
    ]
    assert (tmp_path / "work" / "report.html").exists()


@pytest.mark.parametrize("command", ["demo", "run", "embed", "predict", "mitigate", "evaluate", "explain", "report"])
def test_every_help_shows_an_example(command: str, despur) -> None:
    assert f"despur {command}" in despur(command, "--help").stdout
