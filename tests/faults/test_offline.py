"""Nothing goes out of the machine where no name asks for it: a study, run whole, with sockets that refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = """
import socket

def blocked(self, address, *rest):
    if self.family != getattr(socket, "AF_UNIX", None):  # processes of one machine may talk
        raise SystemExit(f"CONNECTION ATTEMPTED: {address}")
    return real(self, address, *rest)

def unresolved(*asked, **more):
    raise SystemExit(f"NAME LOOKED UP: {asked}")

real = socket.socket.connect
socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = blocked
socket.getaddrinfo = socket.gethostbyname = unresolved
"""
"""As ``sitecustomize``, it is imported before anything else, in every Python process that the run starts."""


@pytest.fixture
def blocked(tmp_path: Path) -> dict[str, str]:
    """An environment in which no Python process opens a connection."""
    place = tmp_path / "blocked"
    place.mkdir()
    (place / "sitecustomize.py").write_text(BLOCK)
    return {**os.environ, "PYTHONPATH": str(place)}


def test_the_block_holds(blocked: dict[str, str]) -> None:
    asks = "import urllib.request as u; u.urlopen('http://127.0.0.1:9')"
    ended = subprocess.run([sys.executable, "-c", asks], env=blocked, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "NAME LOOKED UP" in ended.stderr or "CONNECTION ATTEMPTED" in ended.stderr


def test_a_study_runs_whole_without_the_network(birds: Path, blocked: dict[str, str], tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(
        f"dataset: waterbirds:{birds}\nmodels: [birdland:vit]\nworkspace: work\n"
        "mitigate: {methods: [erm], seeds: 1, train: {epochs: 1}}\nexplain: {images: 4, strips: 1}\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "despur", "run", str(study)], env=blocked, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "CONNECTION ATTEMPTED" not in ended.stderr
    assert "NAME LOOKED UP" not in ended.stderr
    assert (tmp_path / "work" / "report.html").exists()
