"""``despur diff`` and ``despur repair`` as they are typed: what they say, and the exit status that a script reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(own_work: Path, tmp_path: Path) -> Path:
    """Another workspace with the same in it."""
    return Path(shutil.copytree(own_work, tmp_path / "copy"))


def flip(file: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_two_of_the_same_are_the_same_and_the_status_says_so(own_work: Path, copy: Path, despur) -> None:
    result = despur("diff", own_work, copy)
    assert result.exit_code == 0
    assert result.stdout.strip() == "the results are the same"


def test_a_setting_that_made_other_files_is_named_and_the_status_is_1(own_work: Path, copy: Path, despur) -> None:
    for work, epochs in ((own_work, 1), (copy, 2)):
        assert despur("mitigate", "-w", work, "-M", "erm", "--epochs", epochs).exit_code == 0
    result = despur("diff", own_work, copy)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert "mitigate/erm: setting epochs: 1 and 2" in lines
    assert "file runs/erm-seed0/history.parquet: other bytes" in lines
    assert lines[-1].endswith("the first cause is in mitigate/erm: setting epochs")
    found = json.loads(despur("diff", own_work, copy, "--json").stdout)
    assert found["same"] is False
    assert {"kind": "setting", "stage": "mitigate/erm", "name": "epochs", "a": 1, "b": 2} in found["differences"]


def test_what_is_no_workspace_cannot_be_compared(own_work: Path, tmp_path: Path, despur, refused) -> None:
    refused(despur("diff", own_work, tmp_path / "nothing"), "there is no workspace here")


def test_a_damaged_file_is_named_and_computed_again(own_work: Path, copy: Path, despur) -> None:
    shard = next(file for file in (own_work / "features").glob("shard-*") if file.suffix != ".json")
    flip(shard)
    result = despur("repair", "-w", own_work)
    assert result.exit_code == 0, result.stderr
    assert f"features/{shard.name}: not what embed wrote" in result.stdout
    assert "computed again: embed" in result.stdout
    assert despur("diff", own_work, copy).exit_code == 0
    again = despur("repair", "-w", own_work)
    assert again.stdout.strip() == "every file is what was written"
    assert json.loads(despur("repair", "-w", own_work, "--json").stdout)["damaged"] == []


def test_repair_needs_a_workspace(tmp_path: Path, despur, refused) -> None:
    refused(despur("repair", "-w", tmp_path), "there is no workspace here")
