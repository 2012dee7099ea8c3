"""``despur evaluate`` with more to say, and prompts of one's own, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def others(tmp_path: Path) -> Path:
    for name, colour in {"tree": "green", "boat": "blue"}.items():
        (tmp_path / "others" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (16 + number, 16), colour).save(tmp_path / "others" / name / f"{number}.png")
    return tmp_path / "others"


def test_evaluate_blends_and_asks_other_classes_too(own_work: Path, others: Path, despur) -> None:
    assert despur("mitigate", "-w", own_work, "-M", "erm", "--epochs", "1").exit_code == 0
    words = ("evaluate", "-w", own_work, "--blend-curve", "--retain", f"folder:{others}")
    result = despur(*words, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert [point["share"] for point in found["blend"]["points"]] == [step / 10 for step in range(11)]
    assert all(Path(file).is_file() for file in found["blend"]["files"])
    assert found["runs"]["erm-seed0"]["retained"]["images"] == 4
    shown = despur(*words).stdout
    assert "blends of the original weights and erm-seed0's" in shown
    assert "2 classes, 4 images" in shown
    assert despur("check", "-w", own_work, "--min-retained", "0").exit_code == 0


def test_a_study_file_asks_for_both_and_the_report_says_what_was_kept(
    birds: Path, others: Path, tmp_path: Path, despur, refused
) -> None:
    study = tmp_path / "study.yaml"
    lines = (
        f"dataset: waterbirds:{birds}",
        "models: birdland:vit",
        "workspace: work",
        "embed: {batch_size: auto, precision: auto}",
        "mitigate: {methods: [erm], train: {epochs: 1}}",
        "explain: {images: 4, strips: 0, checks: 0}",
        f"retain: {{images: 'folder:{others}'}}",
        "blend: true",
    )
    study.write_text("\n".join(lines))
    result = despur("run", study)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "work" / "figures" / "blend-erm-seed0.html").is_file()
    page = (tmp_path / "work" / "report.html").read_text(encoding="utf-8")
    assert "on 2 classes that were not repaired (4 images), accuracy is" in page
    study.write_text("\n".join(lines).replace("images: 'folder", "image: 'folder"))
    refused(despur("run", study), "retain", "images")


def test_options_that_need_another_are_refused_alone(own_work: Path, despur, refused) -> None:
    refused(despur("evaluate", "-w", own_work, "--run", "erm-seed0"), "--blend-curve")
    refused(despur("evaluate", "-w", own_work, "--retain-names", "imagenet"), "add --retain")


def test_embed_takes_a_prompts_file(own_work: Path, birds: Path, tmp_path: Path, despur, refused) -> None:
    file = tmp_path / "prompts.yaml"
    words = ("embed", f"waterbirds:{birds}", "--model", "birdland:vit", "-w", own_work, "--prompts", file, "--json")
    file.write_text("templates:\n- a drawing of a {}.\nclasses: {waterbird: [gull, duck]}\n")
    found = [json.loads(despur(*words).stdout) for _ in range(2)]
    assert [(one["computed"], one["reworded"]) for one in found] == [(False, True), (False, False)]
    file.write_text("clases: {waterbird: gull}")
    refused(despur(*words), "prompts.yaml", "'clases'", "did you mean 'classes'?")
