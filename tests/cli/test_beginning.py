"""``despur doctor`` and ``despur init``: what a newcomer types first."""

from __future__ import annotations

import json
from pathlib import Path


def test_doctor_tells_and_is_content(tmp_path: Path, despur) -> None:
    result = despur("doctor", tmp_path, "--json")
    assert result.exit_code == 0
    findings = {finding["name"]: finding["found"] for finding in json.loads(result.stdout)["findings"]}
    assert {"python", "torch", "device", "memory"} <= set(findings)
    assert findings["torch"] in despur("doctor", tmp_path).stdout


def test_a_study_that_init_wrote_runs(birds: Path, tmp_path: Path, despur) -> None:
    study = tmp_path / "study.yaml"
    begun = despur("init", birds, "--out", study, "--model", "birdland:vit", "--json")
    assert begun.exit_code == 0, begun.stderr
    assert json.loads(begun.stdout)["dataset"] == f"waterbirds:{birds}"
    text = study.read_text()
    for line in text.splitlines():
        if line.startswith("  methods:"):
            text = text.replace(line, "  methods: [erm]\n  train: {epochs: 1}")
    study.write_text(text.replace("images: 1000", "images: 4\n  strips: 0\n  checks: 0"))
    result = despur("run", study, "--json", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "work" / "report.html").exists()


def test_an_empty_folder_is_one_sentence(tmp_path: Path, despur) -> None:
    result = despur("init", tmp_path, "--out", tmp_path / "study.yaml")
    assert result.exit_code == 2
    assert "class folders" in result.stderr
    assert not (tmp_path / "study.yaml").exists()
