"""The way from ImageNet and Visual Genome to Tables 3 and 5 and Figures 3 and 6, on their layouts in small."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from despur.cli import app
from despur.errors import SettingsError
from despur.pipeline.settings import ModelSettings, SearchSettings
from despur.reproduce import Downloads, chosen_parts
from despur.reproduce.searching import searched
from despur.reproduce.shortcuts import ranked_pairs, shortcuts_beside, shortcuts_figure
from despur.workspace import read_parquet


def despur(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def command(imagenet: Path, visual_genome: Path, work: Path, *parts: str) -> list[str | Path]:
    downloads = ["--imagenet", imagenet, "--visual-genome", visual_genome]
    return ["reproduce", *parts, *downloads, "--detector", "birdland:detector", "--attribute", "cup", "-w", work]


def test_both_tables_and_both_figures_come_out_of_the_downloads_layouts(
    imagenet: Path, visual_genome: Path, tmp_path: Path
):
    asked = command(imagenet, visual_genome, tmp_path / "work", "all")
    asked += ["-m", "birdland:resnet", "--epochs", "2", "--seeds", "2", "--json"]
    said = despur(*asked)
    assert said.exit_code == 0, said.output
    outcome = json.loads(said.stdout)
    tables = {
        name: [number for number in outcome["numbers"] if number["table"] == name] for name in ("table3", "table5")
    }
    assert [number["row"] for number in tables["table3"][:2]] == ["baby pacifier, baby", "can opener, can"]
    assert all(number["ours"] is None for number in tables["table3"][:5]), "nobody looked for the paper's attributes"
    whole = tmp_path / "work" / "imagenet" / "0"
    assert len(read_parquet(whole / "examples.parquet")["label"].unique()) == 12
    counted = read_parquet(whole / "discrepancies.parquet").to_pylist()
    assert {"cup", "drum"} <= {row["attribute"] for row in counted if row["class"] == "baby pacifier"}
    assert len(tables["table5"]) == 5 * 4
    own = {number["row"]: number for number in tables["table5"] if number["column"] == "accuracy of baby pacifier"}
    assert len(own) == 5
    runs = tmp_path / "work" / "imagenet-pair" / "0" / "runs"
    found = json.loads((runs / "pretrained" / "metrics.json").read_text())["accuracy"]["groups"][:2]
    right = sum(group["n"] * (group["accuracy"] or 0) for group in found) / sum(group["n"] for group in found)
    assert next(iter(own.values()))["ours"] == pytest.approx(right)
    assert set(outcome["figures"]) == {"figure3", "figure6"}
    for file in outcome["figures"].values():
        assert Image.open(file).size[0] > 100
    made = {file: file.stat().st_mtime_ns for file in (tmp_path / "work").rglob("*.safetensors")}
    assert despur(*asked).exit_code == 0
    assert made == {file: file.stat().st_mtime_ns for file in made}, "what was up to date is computed again"


def test_a_dry_run_reckons_with_the_detector_too(imagenet: Path, visual_genome: Path, tmp_path: Path):
    asked = command(imagenet, visual_genome, tmp_path / "work", "table3")
    said = despur(*asked, "-m", "birdland:resnet", "--dry-run", "--json")
    efforts = json.loads(said.stdout)["efforts"]
    assert [(effort["model"], effort["part"]) for effort in efforts] == [
        ("birdland:resnet", "encoder"),
        ("birdland:detector", "detector"),
    ]
    assert {effort["images"] for effort in efforts} == {len(list(imagenet.rglob("*.JPEG")))}
    assert all(effort["seconds"] > 0 for effort in efforts)
    assert not (tmp_path / "work").exists()


def test_an_attribute_that_nobody_looks_for_is_told_before_the_images_are_searched(
    imagenet: Path, visual_genome: Path, tmp_path: Path
):
    asked = [word if word != "cup" else "cap" for word in command(imagenet, visual_genome, tmp_path / "work", "table5")]
    said = despur(*asked, "-m", "birdland:resnet")
    assert said.exit_code == 2
    assert "--attribute: 'cap' is in no vocabulary that is looked for; did you mean" in said.output
    assert not (tmp_path / "work").exists()


def test_a_folder_that_is_no_imagenet_is_told_before_the_detector_is_asked_for(birds: Path, tmp_path: Path):
    said = despur("reproduce", "table5", "--imagenet", birds, "-w", tmp_path / "work")
    assert said.exit_code == 2
    assert "no folder train/" in said.output


def test_boxes_that_are_not_there_are_told_before_the_images_are_searched(imagenet: Path, tmp_path: Path):
    own = Path(shutil.copytree(imagenet, tmp_path / "ILSVRC"))
    command = ("reproduce", "table5", "--detector", "tagger", "-m", "birdland:vit", "--dry-run", "--json", "--imagenet")
    assert json.loads(despur(*command, own).stdout)["notes"] == []
    shutil.rmtree(own / "Annotations")
    (note,) = json.loads(despur(*command, own).stdout)["notes"]
    assert "Table 5's AIoU stays empty" in note


def test_all_is_what_the_downloads_allow_and_a_part_without_its_download_is_told():
    assert chosen_parts(["all"], Downloads(imagenet=Path("i"))) == ["table3", "table5", "figure3", "figure6"]
    with pytest.raises(SettingsError, match="give --imagenet"):
        chosen_parts(["table3"], Downloads(waterbirds=Path("w")))
    with pytest.raises(SettingsError, match="no download is named"):
        chosen_parts(["all"], Downloads())


def test_table_3_lays_the_papers_pairs_beside_ours_and_names_our_strongest():
    def pair(name: str, attribute: str, discrepancy: float) -> dict[str, object]:
        return {"class": name, "attribute": attribute, "discrepancy": discrepancy, "confused_class": "padlock"}

    ranked = [pair("wok", "stove", 0.7), pair("baby pacifier", "baby", 0.5), pair("wok", "lid", -0.2)]
    numbers = shortcuts_beside("open_clip:RN50/openai", ranked)
    assert [number.row for number in numbers[5:]] == ["wok, stove"]
    assert numbers[0].difference == pytest.approx(0.5 - 0.621)
    assert numbers[0].remark == "paper: taken for water bottle; ours: padlock"
    assert numbers[1].ours is None
    assert shortcuts_beside("open_clip:RN101/openai", ranked)[0].published is None


def test_figure_3_has_a_row_for_each_pair_with_an_image_right_with_and_one_wrong_without(
    imagenet: Path, tmp_path: Path
):
    dataset = f"table:{imagenet.parent / 'scenes' / 'examples.csv'}"
    search = SearchSettings(detector="column")
    model = ModelSettings(spec="birdland:resnet")
    with searched(dataset, tmp_path / "work", model, search, device=torch.device("cpu")) as embedded:
        numbers = shortcuts_beside(model.spec, ranked_pairs(embedded))
        sheet = shortcuts_figure(embedded, numbers)
    assert sheet.rows, "the built-in model leans on nothing here"
    for row in sheet.rows:
        name = row.heading.partition(":")[0]
        photograph, right, other, wrong = row.cells
        assert right.lines == (f"says {name}",)
        assert wrong.lines != right.lines
        assert (right.wrong, wrong.wrong) == (False, True)
        assert photograph.image.tobytes() != other.image.tobytes()
