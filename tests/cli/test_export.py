"""``despur export`` as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from despur.backbones.heads import class_logits
from despur.data.waterbirds import load_waterbirds
from despur.mitigate.runs import load_run
from despur.pipeline.embedded import Embedded
from despur.workspace import Workspace


def test_a_run_becomes_a_folder_that_transformers_reads(own_work: Path, tmp_path: Path, despur) -> None:
    trained = despur("mitigate", "-w", own_work, "--method", "erm", "--epochs", 1)
    assert trained.exit_code == 0, trained.stderr
    words = ("export", "-w", own_work, "--run", "erm-seed0", "--to", "transformers", "--json")
    result = despur(*words, tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["run"] == "erm-seed0"
    assert {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"} <= set(told["files"])
    assert 0 <= told["after"]["worst_group"] <= 1
    again = despur(*words, tmp_path / "out")
    assert again.exit_code == 2
    assert "something there already" in again.stderr


def test_nothing_trained_is_nothing_to_export(own_work: Path, tmp_path: Path, despur) -> None:
    result = despur("export", "-w", own_work, tmp_path / "out")
    assert result.exit_code == 2
    assert "despur mitigate" in result.stderr
    assert not (tmp_path / "out").exists()


def test_help_shows_an_example(despur) -> None:
    assert "despur export" in despur("export", "--help").stdout


PREDICT = """
import json, socket, sys

def refused(*_):
    raise AssertionError("no network")

socket.socket.connect = refused
sys.path.insert(0, sys.argv[1])
import app
from PIL import Image
print(json.dumps(app.predict(Image.open(sys.argv[2]))))
"""


def test_a_space_starts_without_a_network_and_says_what_the_model_says(
    own_work: Path, birds: Path, tmp_path: Path, despur
) -> None:
    words = {"templates": ["a {} {x} seen", "the {}"], "classes": {"waterbird": ["gull", "a bird of the sea"]}}
    (tmp_path / "words.yaml").write_text(yaml.safe_dump(words))
    spec = f"waterbirds:{birds}"
    told = despur("embed", spec, "--model", "birdland:vit", "--prompts", tmp_path / "words.yaml", "-w", own_work)
    assert told.exit_code == 0, told.stderr
    assert despur("mitigate", "-w", own_work, "--method", "erm", "--epochs", 1).exit_code == 0
    result = despur("export", "-w", own_work, "--run", "erm-seed0", "--space", tmp_path / "space", "--json")
    assert result.exit_code == 0, result.stderr
    space = tmp_path / "space"
    assert {file.name for file in space.iterdir()} == {"README.md", "app.py", "model", "requirements.txt", "space.json"}
    front = yaml.safe_load((space / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert front == {"title": "ERM: landbird, waterbird", "sdk": "gradio", "app_file": "app.py"}

    dataset = load_waterbirds(birds)
    image = dataset.image_paths()[0]
    command = [sys.executable, "-c", PREDICT, str(space), str(image)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)
    assert said.returncode == 0, said.stderr
    shares = json.loads(said.stdout)

    embedded = Embedded(Workspace.open(own_work), torch.device("cpu"))
    run = load_run(own_work / "runs" / "erm-seed0")
    row = embedded.dataset.ids.index(dataset.ids[0])
    logits = class_logits(run.heads, embedded.rows(np.array([row])).float(), embedded.class_prompts)
    expected = dict(zip(dataset.classes, logits.softmax(-1)[0].tolist(), strict=True))
    assert shares == pytest.approx(expected, abs=2e-2)  # features on disk are in half precision


def test_a_space_of_another_format_is_refused(own_work: Path, tmp_path: Path, despur, refused) -> None:
    words = ("export", "-w", own_work, "--space", "--to", "heads", tmp_path / "out")
    refused(despur(*words), "a Space loads no heads", "--to")
