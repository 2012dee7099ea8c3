"""A run as a folder that others load: which run, how much of it, its card, and nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
import yaml
from safetensors.torch import load_file

from despur.backbones.protocol import Backbone
from despur.errors import DespurError, ModelError, SettingsError
from despur.mitigate.runs import load_run
from despur.pipeline import MitigateSettings, mitigate_stage
from despur.pipeline.embedded import Embedded
from despur.pipeline.exporting import export_run
from despur.pipeline.wording import Wording
from despur.workspace import Workspace, read_json

METHOD = "clip+lc+vc+ls"


def rows_of(card: str) -> dict[str, list[str]]:
    """The group table's cells by their first."""
    rows = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("| ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows[2:]}


def test_the_exported_weights_are_the_runs_and_open_clip_loads_them(finished: Embedded, tmp_path: Path) -> None:
    done = export_run(finished, tmp_path / "out", to="open-clip", run=f"{METHOD}-seed1")
    assert done.run == f"{METHOD}-seed1"
    heads = load_run(finished.workspace.path("runs", done.run)).heads
    model = open_clip.create_model(f"local-dir:{tmp_path / 'out'}")
    torch.testing.assert_close(model.visual.proj.mT, heads["image.weight"])
    torch.testing.assert_close(model.text_projection.mT, heads["text.weight"])
    torch.testing.assert_close(model.logit_scale, heads["logit_scale"])


def test_the_card_tells_method_data_licence_and_every_group_before_and_after(
    finished: Embedded, tmp_path: Path
) -> None:
    export_run(finished, tmp_path / "out", to="open-clip", run="erm-seed0", licence="mit")
    card = (tmp_path / "out" / "README.md").read_text()
    _, fields, body = card.split("---\n", 2)
    assert yaml.safe_load(fields)["license"] == "mit"
    assert yaml.safe_load(fields)["library_name"] == "open_clip"
    assert f"Data: `waterbirds:{finished.dataset.root.name}`;" in body
    assert "`erm`" in body
    assert "drawn at random" in body
    for name, column in (("pretrained", 1), ("erm-seed0", 2)):
        accuracy = read_json(finished.workspace.path("runs", name, "metrics.json"))["accuracy"]
        for group in accuracy["groups"]:
            title = f"{group['class']} {'with' if group['present'] else 'without'} {group['attribute']}"
            cells = rows_of(body)[title]
            assert int(cells[0]) == group["n"]
            assert cells[column].startswith(f"{100 * group['accuracy']:.1f} (")
        assert rows_of(body)["worst group"][column] == f"{100 * accuracy['worst_group']:.1f}"


def test_the_card_tells_the_prompts_that_were_read(finished: Embedded, own_work: Path, tmp_path: Path) -> None:
    export_run(finished, tmp_path / "usual", to="heads", run="erm-seed0")
    assert "read open_clip's 80 ImageNet templates, averaged;" in (tmp_path / "usual" / "README.md").read_text()
    own = Embedded(Workspace.open(own_work), finished.device, finished.backbone)
    own.wording = Wording(templates=("a {} outdoors",), classes={"waterbird": ("gull", "duck")})
    export_run(own, tmp_path / "own", to="heads", run="erm-seed0")
    told = (tmp_path / "own" / "README.md").read_text()
    assert "read “a {} outdoors”, averaged; “waterbird” is called “gull”, “duck”;" in told


def test_a_card_without_a_licence_says_so(finished: Embedded, tmp_path: Path) -> None:
    export_run(finished, tmp_path / "out", to="heads", run="erm-seed0")
    assert "Licence: not stated" in (tmp_path / "out" / "README.md").read_text()


def test_a_blend_of_nothing_is_the_model_that_it_was(finished: Embedded, tmp_path: Path) -> None:
    done = export_run(finished, tmp_path / "none", to="heads", run=f"{METHOD}-seed0", blend=0.0)
    for name, head in load_file(tmp_path / "none" / "heads.safetensors").items():
        torch.testing.assert_close(head, finished.heads[name].cpu())
    assert done.after == done.before
    export_run(finished, tmp_path / "half", to="heads", run=f"{METHOD}-seed0", blend=0.5)
    run = load_run(finished.workspace.path("runs", f"{METHOD}-seed0"))
    half = load_file(tmp_path / "half" / "heads.safetensors")
    middle = (finished.heads["image.weight"].cpu() + run.heads["image.weight"]) / 2
    torch.testing.assert_close(half["image.weight"], middle)
    assert "0.5 of the original and 0.5 of the retrained" in (tmp_path / "half" / "README.md").read_text()


def test_without_a_choice_the_run_that_validation_prefers_is_written(finished: Embedded, tmp_path: Path) -> None:
    done = export_run(finished, tmp_path / "out", to="heads")
    assert done.run in {f"{method}-seed0" for method in ("erm", METHOD)}
    assert (tmp_path / "out" / "heads.safetensors").exists()


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(
    finished: Embedded, own_work: Path, backbone: Backbone, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    own = Embedded(Workspace.open(own_work), torch.device("cpu"), backbone)
    mitigate_stage(own, MitigateSettings(methods=("erm-probe",), train={"epochs": 1, "batch_size": 16}))
    refusals: list[tuple[type[DespurError], str, dict[str, object]]] = [
        (SettingsError, "did you mean 'open-clip'", {"to": "openclip"}),
        (SettingsError, "a number from 0 to 1", {"to": "heads", "blend": 1.5}),
        (SettingsError, "did you mean 'erm-seed", {"to": "heads", "run": "erm-seed9"}),
        (SettingsError, "nothing to blend it with", {"to": "heads", "run": "erm-probe-seed0", "blend": 0.5}),
        (ModelError, r"a part of its own \(probe\)", {"to": "open-clip", "run": "erm-probe-seed0"}),
    ]
    for kind, sentence, choice in refusals:
        with pytest.raises(kind, match=sentence):
            export_run(own, tmp_path / "out", **choice)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="something there already"):
        export_run(own, tmp_path / "full", to="heads")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    left = {path.name for path in tmp_path.iterdir()}
    assert "out" not in left
    assert not any("partial" in name for name in left)


def files_naming(folder: Path, exported: Path) -> list[str]:
    """The files of an export in whose bytes a folder's name stands."""
    needle = str(folder).encode()
    files = [file for file in exported.rglob("*") if file.is_file()]
    assert files
    return [file.name for file in files if needle in file.read_bytes()]


@pytest.mark.parametrize(
    ("to", "space"), [("open-clip", False), ("open-clip", True), ("transformers", False), ("heads", False)]
)
def test_nothing_that_is_exported_names_a_folder_of_the_machine(
    finished: Embedded, to: str, space: bool, tmp_path: Path
) -> None:
    home = finished.workspace.root.parents[1]
    assert finished.dataset.root.is_relative_to(home)
    export_run(finished, tmp_path / "out", to=to, run="erm-seed0", space=space)
    assert files_naming(home, tmp_path / "out") == []


def test_a_model_of_a_folder_is_told_by_its_last_name(finished: Embedded, own_work: Path, tmp_path: Path) -> None:
    own = Embedded(Workspace.open(own_work), finished.device, finished.backbone)
    own.model = own.model.model_copy(update={"spec": "open_clip:ViT-B-32//home/ann/mine.safetensors"})
    export_run(own, tmp_path / "out", to="heads", run="erm-seed0")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "# open_clip:ViT-B-32/mine.safetensors, heads retrained" in card
    assert "ann" not in card.replace("landbird", "")


def test_the_configuration_beside_the_weights_names_the_model(finished: Embedded, tmp_path: Path) -> None:
    export_run(finished, tmp_path / "out", to="open-clip", run=f"{METHOD}-seed0")
    config = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())
    assert config["model_cfg"]["vision_cfg"]["image_size"] == finished.backbone.framing.height
    assert config["preprocess_cfg"]["resize_mode"] == "shortest"
