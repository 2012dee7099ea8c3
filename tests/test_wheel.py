"""The wheel holds what an installed despur needs, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (made,) = folder.glob("*.whl")
    return made


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(["git", "ls-files", "src/despur"], cwd=ROOT, capture_output=True, text=True, check=True)
    kept = {line.removeprefix("src/") for line in tracked.stdout.splitlines()}
    assert kept - held == set()
    assert [name for name in held if not name.startswith("despur/") or "__pycache__" in name] == []
    assert "despur/py.typed" in held


@pytest.mark.slow
def test_the_wheel_is_under_30_megabytes(wheel: Path) -> None:
    assert wheel.stat().st_size < 30_000_000


@pytest.mark.slow
def test_the_wheel_runs_from_a_place_of_its_own(wheel: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere and imported from there, it reads the model that it carries."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import despur\n"
        f"assert despur.__file__.startswith({str(tmp_path)!r}), despur.__file__\n"
        "backbone = despur.load_backbone('birdland:resnet')\n"
        "print(backbone.spec)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "birdland:resnet"
