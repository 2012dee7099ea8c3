"""The commands around the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from despur.cli import app


def despur(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


CSV = "class,attribute,verdict,who,when,note,image\nbaby pacifier,baby,spurious,Ada,2026-05-04T12:00:00Z,,\n"


def test_verdicts_go_in_and_out_as_files(work: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(CSV)
    taken = despur("verdicts", "import", tmp_path / "in.csv", "-w", work, "--json")
    assert json.loads(taken.stdout) == {"file": str(tmp_path / "in.csv"), "added": 1, "passed_over": 0}
    written = despur("verdicts", "export", tmp_path / "out.yaml", "-w", work)
    assert written.exit_code == 0
    assert "verdict: spurious" in (tmp_path / "out.yaml").read_text()


def test_a_verdict_on_no_class_of_the_workspace_is_refused_with_the_nearest(work: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(CSV + CSV.split("\n")[1].replace("baby pacifier", "baby pacifer") + "\n")
    result = despur("verdicts", "import", tmp_path / "in.csv", "-w", work)
    assert result.exit_code == 2
    assert "'baby pacifer', which is no class; did you mean 'baby pacifier'?" in " ".join(result.stderr.split())
    written = despur("verdicts", "export", tmp_path / "out.csv", "-w", work)
    assert "0 verdicts" in written.stdout
    assert not (work / "verdicts.sqlite").exists(), "nothing of the file is kept, and an export writes nothing else"


def test_a_file_that_means_nothing_is_one_sentence_and_status_2(work: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(CSV.replace("spurious", "wicked"))
    result = despur("verdicts", "import", tmp_path / "in.csv", "-w", work)
    assert result.exit_code == 2
    assert "line 2: verdict" in result.stderr
    assert not result.stdout


def test_a_review_of_what_is_no_workspace_is_refused(tmp_path: Path) -> None:
    result = despur("review", "-w", tmp_path, "--no-browser")
    assert result.exit_code == 2
    assert "workspace.json" in result.stderr


@pytest.mark.parametrize("name", ["", "  ", "A" * 81])
def test_a_name_that_no_verdict_can_hold_is_refused(name: str, work: Path) -> None:
    result = despur("review", "-w", work, "--no-browser", "--name", name, "--host", "192.0.2.1")
    assert result.exit_code == 2
    assert "is no name to judge under; choose a --name" in result.stderr


def test_an_address_of_another_machine_is_refused(work: Path) -> None:
    result = despur("review", "-w", work, "--no-browser", "--host", "192.0.2.1")
    assert result.exit_code == 2
    assert "--host" in result.stderr


@pytest.mark.parametrize("name", ["  ", "A" * 81])
def test_a_name_under_which_no_verdict_could_be_kept_is_refused_at_the_start(name: str, work: Path) -> None:
    result = despur("review", "-w", work, "--no-browser", "--host", "192.0.2.1", "--name", name)
    assert result.exit_code == 2
    assert "--name" in result.stderr
