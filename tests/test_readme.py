"""What the README shows works, word for word but for names that a reader replaces."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from despur.cli import app

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    return found


def commands() -> list[str]:
    """The stages in the order of the section on one's own images."""
    section = README.split("## Your own images")[1].split("```")[0]
    return re.findall(r"^    (despur .+)$", section, flags=re.MULTILINE)


def run(line: str) -> str:
    result = CliRunner().invoke(app, shlex.split(line)[1:])
    assert result.exit_code == 0, f"{line}\n{result.output}"
    return result.output


def test_the_commands_lead_from_a_folder_of_images_to_a_report(birds: Path, tmp_path: Path):
    lines = commands()
    assert len(lines) >= 6
    for line in lines:
        own = line.replace("waterbirds:DIR", f"waterbirds:{birds}").replace("open_clip:RN50/openai", "birdland:resnet")
        run(own.replace("WORK", str(tmp_path / "work")).replace("--seeds 5", "--seeds 1 --epochs 3"))
    assert "<html" in (tmp_path / "work" / "report.html").read_text(encoding="utf-8")


def test_the_study_file_runs(birds: Path, tmp_path: Path):
    text = block("yaml").replace("waterbirds:waterbird_complete95_forest2water2", f"waterbirds:{birds}")
    text = text.replace("open_clip:RN50/openai", "birdland:resnet").replace("WORK", str(tmp_path / "work"))
    study = tmp_path / "study.yaml"
    study.write_text(text.replace("seeds: 5", "seeds: 1\n  train: {epochs: 3}"), encoding="utf-8")
    run(f"despur run {study}")
    assert (tmp_path / "work" / "report.html").is_file()


def test_the_python_of_the_readme_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    exec(compile(block("python").replace('"birdland"', '"birdland:birds:0.01"'), "README.md", "exec"), {})  # noqa: S102
    before, after = map(float, capsys.readouterr().out.split())
    assert 0.0 <= before <= 1.0
    assert 0.0 <= after <= 1.0
    assert (tmp_path / "report.html").is_file()
