"""The wheel holds what an installed despur needs, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import despur

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


@pytest.mark.slow
def test_a_release_is_a_tag(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    git("add", "pyproject.toml")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "all there is")
    git("tag", "v7.8.9")
    asked = subprocess.run(
        [sys.executable, "-m", "hatchling", "version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert asked.stdout.strip() == "7.8.9"


def test_the_package_says_the_version_that_it_was_installed_as() -> None:
    assert despur.__version__ == metadata.version("despur")
