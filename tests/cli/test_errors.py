"""Bad input: one sentence on stderr, exit status 2, nothing half-written."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from despur.mitigate.runs import load_heads


def rewrite(folder: Path, change: Callable[[list[dict[str, str]]], list[dict[str, str]]]) -> None:
    """Change the rows of a Waterbirds folder's metadata."""
    file = folder / "metadata.csv"
    with file.open(newline="") as handle:
        rows = change(list(csv.DictReader(handle)))
    with file.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def embed(despur, folder: Path, work: Path, *more: object) -> Any:
    return despur("embed", f"waterbirds:{folder}", "--model", "birdland:vit", "-w", work, *more)


def test_a_missing_folder(tmp_path: Path, despur, refused) -> None:
    refused(embed(despur, tmp_path / "nowhere", tmp_path / "work"), "nowhere")
    assert not (tmp_path / "work" / "workspace.json").exists()


def test_metadata_without_a_column(own_birds: Path, tmp_path: Path, despur, refused) -> None:
    rewrite(own_birds, lambda rows: [{key: row[key] for key in row if key != "place"} for row in rows])
    refused(embed(despur, own_birds, tmp_path / "work"), "metadata.csv", "'place'")


def test_a_label_never_seen_in_training(tmp_path: Path, despur, refused) -> None:
    table = tmp_path / "table.csv"
    table.write_text("image,label,split\na.png,cat,train\nb.png,dog,train\nc.png,cat,val\nd.png,owl,test\n")
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(b"")
    refused(despur("embed", f"table:{table}", "--model", "birdland:vit", "-w", tmp_path / "work"), "owl")


def test_a_split_with_no_rows(own_birds: Path, tmp_path: Path, despur, refused) -> None:
    rewrite(own_birds, lambda rows: [row for row in rows if row["split"] != "1"])
    refused(embed(despur, own_birds, tmp_path / "work"), "val")


def test_an_image_that_is_listed_but_absent_is_quarantined(own_birds: Path, tmp_path: Path, despur, refused) -> None:
    gone = next(own_birds.glob("*/*.jpg"))
    gone.unlink()
    refused(embed(despur, own_birds, tmp_path / "work", "--max-unreadable", 0), gone.name)
    accepted = embed(despur, own_birds, tmp_path / "work", "--max-unreadable", 0.05)
    assert accepted.exit_code == 0
    assert "1 unreadable" in accepted.stdout


def test_a_group_missing_from_training(own_birds: Path, tmp_path: Path, despur, refused) -> None:
    def without_waterbirds_on_land(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [row for row in rows if (row["split"], row["y"], row["place"]) != ("0", "1", "0")]

    rewrite(own_birds, without_waterbirds_on_land)
    assert embed(despur, own_birds, tmp_path / "work").exit_code == 0
    result = despur("mitigate", "-w", tmp_path / "work", "--method", "group-dro", "--epochs", 1)
    refused(result, "waterbird without water")
    assert not list((tmp_path / "work").glob("runs/group-dro*"))


def test_an_unknown_loss(own_work: Path, despur, refused) -> None:
    refused(despur("mitigate", "-w", own_work, "--losses", "clip,vx"), "'vx'", "vc")
    assert not (own_work / "runs").exists()


def test_a_learning_rate_that_gives_no_finite_number(own_work: Path, despur, refused) -> None:
    result = despur("mitigate", "-w", own_work, "--method", "clip", "--epochs", 2, "--lr", "1e38")
    refused(result, "step", "learning rate")
    kept = json.loads((own_work / "runs" / "clip-seed0" / "config.json").read_text())
    assert kept["diverged_step"] is not None
    heads = load_heads(own_work / "runs" / "clip-seed0" / "heads.safetensors")
    assert all(bool(head.isfinite().all()) for head in heads.values())


def test_a_learning_rate_that_gives_no_seed_a_finite_number(own_work: Path, despur, refused) -> None:
    result = despur("mitigate", "-w", own_work, "--method", "clip", "--epochs", 2, "--lr", "1e38", "--seeds", 2)
    refused(result, "step", "learning rate")
    assert (own_work / "runs" / "clip-seed1" / "config.json").exists()


def test_an_unknown_kind_of_dataset(tmp_path: Path, despur, refused) -> None:
    refused(despur("embed", "waterbird:x", "--model", "birdland:vit", "-w", tmp_path / "work"), "waterbirds")


def test_an_architecture_without_weights(birds: Path, tmp_path: Path, despur, refused) -> None:
    result = despur("embed", f"waterbirds:{birds}", "--model", "open_clip:RN50", "-w", tmp_path / "work")
    refused(result, "--random-weights")


def test_a_mistyped_model_is_told_before_the_dataset_is_read(tmp_path: Path, despur, refused) -> None:
    words = ("embed", f"folder:{tmp_path / 'nowhere'}", "-w", tmp_path / "work", "--model")
    refused(despur(*words, "open_clip:ViT-B-32/opnai"), "did you mean 'openai'", "more, which despur doctor --tags")
    refused(despur(*words, "openclip:RN50/openai"), "did you mean 'open_clip'")
    (tmp_path / "study.yaml").write_text("dataset: folder:nowhere\nmodels: [open_clip:RN5]\nworkspace: work\n")
    refused(despur("run", tmp_path / "study.yaml"), "did you mean 'RN50'")
    assert not (tmp_path / "work").exists()


def test_the_weights_of_an_architecture_are_listed_as_they_are_typed(despur, refused) -> None:
    listed = despur("doctor", "--tags", "RN50")
    assert listed.exit_code == 0
    assert listed.stdout.splitlines() == [f"open_clip:RN50/{tag}" for tag in ("openai", "yfcc15m", "cc12m")]
    refused(despur("doctor", "--tags", "RN5"), "did you mean 'RN50'")


def test_a_folder_that_is_no_workspace(tmp_path: Path, despur, refused) -> None:
    refused(despur("predict", "-w", tmp_path), "despur embed")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("dataset: birdland\nmodels: [birdland:vit]\nworkspace: w\nseedz: 3\n", "seedz"),
        ("dataset: birdland\nmodels: [birdland:vit]\n", "workspace"),
        ("dataset: !!python/object/apply:os.system ['true']\n", "YAML"),
        ("- a list\n", "settings"),
        ("dataset: birdland\nmodels: []\nworkspace: w\n", "models"),
    ],
)
def test_a_study_file_that_means_nothing(content: str, said: str, tmp_path: Path, despur, refused) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(content)
    refused(despur("run", study), "study.yaml", said)


def test_a_workspace_of_a_newer_schema(own_work: Path, despur, refused) -> None:
    file = own_work / "workspace.json"
    file.write_text(file.read_text().replace('"schema": 1', '"schema": 9'))
    refused(despur("predict", "-w", own_work), "schema")


def test_debug_shows_the_traceback(tmp_path: Path, despur, refused) -> None:
    result = despur("predict", "-w", tmp_path, "--debug")
    assert type(result.exception).__name__ == "WorkspaceError"
