"""What a repair costs on classes that it was not for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from despur.backbones.heads import class_logits
from despur.backbones.protocol import Backbone
from despur.errors import DataError, SettingsError
from despur.features.decode import decode_images
from despur.features.encode import encode_prompts
from despur.pipeline import MitigateSettings, evaluate_stage, mitigate_stage, retaining
from despur.pipeline.checking import Thresholds, check_metrics
from despur.pipeline.embedded import Embedded
from despur.pipeline.retaining import retain_stage
from despur.workspace import Workspace, read_json

COLOURS = {"tree": (30, 120, 30), "house": (180, 60, 50), "boat": (40, 60, 200)}
RUN = "clip+lc+vc+ls-seed0"


@pytest.fixture
def mine(own_work: Path, backbone: Backbone) -> Embedded:
    return Embedded(Workspace.open(own_work), torch.device("cpu"), backbone)


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """Four pictures of each of three classes, and of one that was repaired."""
    root = tmp_path / "others"
    generator = np.random.default_rng(0)
    for name, colour in (COLOURS | {"waterbird": (250, 250, 250)}).items():
        (root / name).mkdir(parents=True)
        for number in range(4):
            noise = generator.integers(-30, 30, (32, 32, 3))
            Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(
                root / name / f"{number}.png"
            )
    return root


def metrics(embedded: Embedded, run: str) -> dict[str, Any]:
    return read_json(embedded.workspace.path("runs", run, "metrics.json"))


def test_accuracy_on_other_classes_is_told_before_and_after(mine: Embedded, others: Path) -> None:
    assert retain_stage(mine, f"folder:{others}")
    evaluate_stage(mine)
    for run in ("pretrained", RUN):
        found = metrics(mine, run)["retained"]
        assert (found["classes"], found["images"]) == (3, 12)  # what was repaired is no other class
    pretrained = metrics(mine, "pretrained")["retained"]
    assert pretrained["before"] == pretrained["after"]


def test_the_accuracy_is_that_of_a_slow_loop(mine: Embedded, others: Path, backbone: Backbone) -> None:
    retain_stage(mine, f"folder:{others}")
    evaluate_stage(mine)
    classes = sorted(COLOURS)
    prompts = encode_prompts(backbone, mine.wording.templates, classes)
    right = 0
    for label, name in enumerate(classes):
        for file in sorted((others / name).iterdir()):
            (batch,) = decode_images([file], backbone, [range(1)], workers=1)
            features = backbone.image_features(batch.pixels).half().float()
            right += int(class_logits(mine.heads, features, prompts).argmax()) == label
    assert metrics(mine, RUN)["retained"]["before"] == right / 12


def test_the_pictures_are_embedded_once(mine: Embedded, others: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert retain_stage(mine, f"folder:{others}")
    assert not retain_stage(mine, f"folder:{others}")
    mitigate_stage(mine, MitigateSettings(methods=("erm",), train={"epochs": 1, "batch_size": 16}))
    monkeypatch.setattr(type(mine.backbone), "image_features", None)
    assert retain_stage(mine, f"folder:{others}")


def test_an_accuracy_of_other_heads_is_not_told(mine: Embedded, others: Path) -> None:
    retain_stage(mine, f"folder:{others}")
    mitigate_stage(mine, MitigateSettings(methods=("erm",), train={"epochs": 1, "batch_size": 16}))
    evaluate_stage(mine)
    assert metrics(mine, "erm-seed0")["retained"] is None


def test_a_probe_names_no_other_classes(mine: Embedded, others: Path) -> None:
    mitigate_stage(mine, MitigateSettings(methods=("erm-probe",), train={"epochs": 1, "batch_size": 16}))
    retain_stage(mine, f"folder:{others}")
    evaluate_stage(mine)
    assert metrics(mine, "erm-probe-seed0")["retained"] is None
    assert metrics(mine, RUN)["retained"] is not None


def test_pictures_that_cannot_be_read_stop_it_with_what_this_command_can_do(mine: Embedded, others: Path) -> None:
    (others / "boat" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"others: 1 of 12 images cannot be read.*; mend or remove them$"):
        retain_stage(mine, f"folder:{others}")


def test_folders_can_be_called_by_other_names(mine: Embedded, others: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.yaml"
    names.write_text("{boat: sailing boat, tree: waterbird}")
    dataset, phrases = retaining.unrepaired(retaining.load_retained(f"folder:{others}"), str(names), {"waterbird"})
    assert (list(dataset.classes), phrases) == (["boat", "house"], ["sailing boat", "house"])
    assert dataset.labels.tolist() == [0] * 4 + [1] * 4
    names.write_text("{boot: sailing boat}")
    with pytest.raises(SettingsError, match="did you mean 'boat'"):
        retain_stage(mine, f"folder:{others}", str(names))


def test_folders_of_imagenet_are_called_as_its_classes(tmp_path: Path) -> None:
    for wnid in ("n03825788", "n04557648", "n01440764"):
        (tmp_path / wnid).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / wnid / "1.png")
    _, phrases = retaining.unrepaired(retaining.load_retained(f"folder:{tmp_path}"), "imagenet", {"water bottle"})
    assert phrases == ["tench", "baby pacifier"]


@pytest.mark.parametrize(
    ("spec", "said"), [("imagenet:DIR", "write folder:DIR"), ("folder:/nowhere", "there is no such folder")]
)
def test_what_is_no_folder_of_classes_is_refused(mine: Embedded, spec: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        retain_stage(mine, spec)


def test_one_other_class_is_no_question(others: Path) -> None:
    dataset = retaining.load_retained(f"folder:{others}")
    with pytest.raises(DataError, match="two other classes"):
        retaining.unrepaired(dataset, None, {"waterbird", "boat", "tree"})


@pytest.mark.parametrize(("limit", "passed"), [(0.75, True), (0.76, False)])
def test_a_threshold_asks_what_is_retained_of_other_classes(limit: float, passed: bool) -> None:
    measured = {"accuracy": {"average": 0.9}, "retained": {"classes": 3, "images": 12, "before": 0.5, "after": 0.375}}
    (check,) = check_metrics(Thresholds(min_retained=limit), measured, {"accuracy": {"average": 0.5}})
    assert check.value == 0.75
    assert check.passed is passed
