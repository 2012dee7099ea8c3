"""The way from a Waterbirds download to the paper's tables, on scenes of birdland packed as the download is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from despur.backbones import open_clip
from despur.birdland.write import write_birds
from despur.catalog import load_dataset
from despur.cli import app
from despur.errors import SettingsError
from despur.reproduce import Beside, Choices, Downloads, chosen_parts, group_sizes, waterbirds_study
from despur.reproduce.beside import architecture
from despur.reproduce.study import TRIED


def despur(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_all_tables_come_out_of_one_study_and_a_second_call_computes_nothing(birds: Path, tmp_path: Path):
    command = ("reproduce", "all", "--waterbirds", birds, "-w", tmp_path / "work", "-m", "birdland:resnet")
    said = despur(*command, "--seeds", "2", "--epochs", "2", "--json")
    assert said.exit_code == 0, said.output
    numbers = json.loads(said.stdout)["numbers"]
    assert [number["table"] for number in numbers] == ["table1"] * 4 + ["table2"] * 4 + ["table4"] * 24 + [
        "ablation"
    ] * 36
    assert sum(number["ours"] for number in numbers[:4]) == len(load_dataset(f"waterbirds:{birds}").split_rows("train"))
    assert numbers[0]["published"] == 3498
    assert numbers[0]["difference"] == numbers[0]["ours"] - 3498
    zero_shot = {number["column"]: number["ours"] for number in numbers[8:12]}
    groups = [number["ours"] for number in numbers[4:8]]
    assert zero_shot["worst_group"] == pytest.approx(min(groups))
    sizes = [number["ours"] for number in numbers[:4]]
    expected = sum(group * size for group, size in zip(groups, sizes, strict=True)) / sum(sizes)
    assert zero_shot["average"] == pytest.approx(expected)
    assert all(number["published"] is None for number in numbers[4:])
    made = {file: file.stat().st_mtime_ns for file in (tmp_path / "work" / "runs").rglob("heads.safetensors")}
    assert despur(*command, "--seeds", "2", "--epochs", "2").exit_code == 0
    assert made == {file: file.stat().st_mtime_ns for file in made}


def test_a_dry_run_says_what_it_would_take_and_leaves_nothing(birds: Path, tmp_path: Path):
    said = despur(
        "reproduce",
        "table4",
        "--waterbirds",
        birds,
        "-w",
        tmp_path / "work",
        "-m",
        "birdland:vit",
        "--dry-run",
        "--json",
    )
    (effort,) = json.loads(said.stdout)["efforts"]
    assert effort["images"] == len(load_dataset(f"waterbirds:{birds}"))
    assert effort["seconds"] > 0
    assert not (tmp_path / "work").exists()


def test_a_dry_run_fetches_no_weights(birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fetched(*_: object) -> Path:
        raise AssertionError("it asked for the weights")

    monkeypatch.setattr(open_clip, "weights_file", fetched)
    command = ("reproduce", "table4", "--waterbirds", birds, "-w", tmp_path / "work", "--dry-run", "--json")
    said = despur(*command, "-m", "open_clip:RN50/openai")
    assert said.exit_code == 0, said.output
    assert [effort["model"] for effort in json.loads(said.stdout)["efforts"]] == ["open_clip:RN50/openai"]


def test_what_aiou_needs_and_is_not_there_is_told_before_hours_of_work(birds: Path, tmp_path: Path):
    def notes(folder: Path) -> list[str]:
        command = ("reproduce", "table4", "--waterbirds", folder, "-m", "birdland:vit", "--dry-run", "--json")
        return json.loads(despur(*command).stdout)["notes"]

    assert notes(birds) == []
    own = Path(shutil.copytree(birds, tmp_path / "birds"))
    shutil.rmtree(own / "segmentations")
    assert notes(own) == [
        "no masks lie beside the Waterbirds download: AIoU is measured on boxes, and the paper's on masks; "
        "name CUB's with --masks"
    ]
    (own / "bounding_boxes.txt").unlink()
    assert "AIoU stays empty" in notes(own)[0]


def test_table_1_needs_no_model(birds: Path, tmp_path: Path):
    said = despur("reproduce", "table1", "--waterbirds", birds, "-w", tmp_path / "work")
    assert said.exit_code == 0
    assert "3,498" in said.stdout
    assert not (tmp_path / "work").exists()


def test_an_unknown_table_is_told_with_the_nearest_one(birds: Path, tmp_path: Path):
    said = despur("reproduce", "tabel4", "--waterbirds", birds, "-w", tmp_path / "work")
    assert said.exit_code == 2
    assert "table4" in said.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tabel4",), "did you mean 'table4'"),
        (("table4", "--settings", "relesed"), "did you mean 'released'"),
        (("table4", "--epochs", "0"), "epochs = 0"),
        (("table4", "-m", "open_clip:RN5"), "did you mean 'RN50'"),
        (("figure5",), "figure5 is of a vision transformer; name one with --model"),
        (("figure4", "-m", "birdland:vit"), "figure4 is of a ResNet"),
    ],
)
def test_what_is_mistyped_is_told_before_anything_is_timed(
    birds: Path, tmp_path: Path, words: tuple[str, ...], said: str
):
    models = () if "-m" in words else ("-m", "birdland:resnet")
    refused = despur("reproduce", *words, *models, "--waterbirds", birds, "-w", tmp_path / "work")
    assert refused.exit_code == 2
    assert said in refused.output
    assert "images take" not in refused.output
    assert not (tmp_path / "work").exists()


def test_an_unknown_table_is_told_before_a_missing_download():
    assert "did you mean 'table4'" in despur("reproduce", "tabel4").output


def test_all_may_stand_beside_others_and_leaves_out_figures_of_models_that_are_not_named():
    downloads = Downloads(waterbirds=Path("w"))
    everything = ["table1", "table2", "table4", "figure4", "figure5", "ablation"]
    assert chosen_parts(["table1", "all"], downloads) == everything
    assert chosen_parts(["all"], downloads, ["birdland:vit"]) == [part for part in everything if part != "figure4"]


def test_table_1_hangs_on_no_model_and_so_on_no_settings_that_some_models_have(birds: Path, tmp_path: Path):
    said = despur("reproduce", "table1", "--settings", "released", "--waterbirds", birds, "-w", tmp_path / "work")
    assert said.exit_code == 0, said.output


def test_table_2_alone_trains_nothing_and_is_what_it_is_beside_table_4(birds: Path, tmp_path: Path):
    command = ("--waterbirds", birds, "-w", tmp_path / "work", "-m", "birdland:vit", "--epochs", "1", "--json")
    alone = despur("reproduce", "table2", *command)
    assert alone.exit_code == 0, alone.output
    assert not (tmp_path / "work" / "runs").exists()
    both = despur("reproduce", "table2", "table4", *command)
    assert both.exit_code == 0, both.output
    numbers = json.loads(alone.stdout)["numbers"]
    assert len(numbers) == 4
    assert numbers == json.loads(both.stdout)["numbers"][:4]
    made = {file: file.stat().st_mtime_ns for file in (tmp_path / "work").rglob("*") if file.is_file()}
    again = despur("reproduce", "table2", *command)
    assert json.loads(again.stdout)["numbers"] == numbers
    kept = [file for file in made if file.name != "workspace.json" and not file.name.startswith(".")]
    assert [file for file in kept if file.stat().st_mtime_ns != made[file]] == []


def test_masks_are_looked_for_where_the_user_is_and_not_inside_the_dataset():
    dataset = waterbirds_study(Path("d"), Path("w"), masks=Path("m")).dataset
    assert dataset == f"waterbirds:d,masks={Path('m').absolute()}"


def test_recipes_are_the_papers_the_released_commands_and_the_tuned_ones():
    paper = waterbirds_study(Path("d"), Path("w")).mitigate
    assert (paper.train["learning_rate"], paper.train["weight_decay"], paper.train["epochs"]) == (1e-5, 1e-4, 300)
    assert paper.by_model["open_clip:ViT-L-14-336/openai"]["erm"] == {"batch_size": 32}
    tuned = waterbirds_study(Path("d"), Path("w"), Choices(recipe="tuned"))
    assert tuned.tune == TRIED
    assert waterbirds_study(Path("d"), Path("w")).tune is None
    released = waterbirds_study(Path("d"), Path("w"), Choices(["open_clip:RN50/openai"], "released"))
    assert released.trainable == "attention-pool"
    assert released.mitigate.train["similarity"] == "cosine"
    with pytest.raises(SettingsError, match="name one --model"):
        waterbirds_study(Path("d"), Path("w"), Choices(recipe="released"))
    with pytest.raises(SettingsError, match="no settings 'papr'"):
        waterbirds_study(Path("d"), Path("w"), Choices(recipe="papr"))


def test_without_a_place_everything_lies_in_a_folder_of_its_own(
    birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    said = despur("reproduce", "table1", "--waterbirds", birds, "-m", "birdland:vit", "--json")
    assert said.exit_code == 0, said.output
    assert {path.name for path in tmp_path.iterdir()} <= {"reproduction"}


def test_a_seed_is_the_first_of_the_runs_and_of_every_other_draw(birds: Path, tmp_path: Path):
    command = ("reproduce", "table4", "--waterbirds", birds, "-w", tmp_path / "work", "-m", "birdland:vit")
    said = despur(*command, "--seeds", "2", "--seed", "5", "--epochs", "1", "--json")
    assert said.exit_code == 0, said.output
    runs = {folder.name for folder in (tmp_path / "work" / "runs").iterdir()}
    assert {"erm-seed5", "erm-seed6"} <= runs
    assert "erm-seed0" not in runs
    stages = json.loads((tmp_path / "work" / "workspace.json").read_text())["stages"]
    assert stages["embed"]["settings"]["model"]["seed"] == 5
    assert stages["explain"]["settings"]["seed"] == 5


def test_a_specs_architecture_is_what_the_paper_calls_its_backbone():
    assert architecture("open_clip:RN50/openai") == "RN50"
    assert architecture("open_clip:ViT-L-14-336/folder/weights.pt") == "ViT-L-14-336"


def test_a_difference_is_ours_minus_the_papers():
    assert Beside("table2", "m", "r", "c", 0.25, 0.5).difference == 0.25
    assert Beside("table2", "m", "r", "c", None, 0.5).difference is None


def test_table_1_counts_training_images_of_each_group(birds: Path):
    dataset = load_dataset(f"waterbirds:{birds}")
    sizes = {number.row: number.ours for number in group_sizes(dataset)}
    assert list(sizes) == ["landbird on land", "landbird on water", "waterbird on land", "waterbird on water"]
    groups = dataset.groups("water")[dataset.split_rows("train")].tolist()
    assert list(sizes.values()) == [groups.count(group) for group in range(4)]


def test_figures_4_and_5_are_the_maps_of_the_resnet_and_of_the_transformer(birds: Path, tmp_path: Path):
    models = ("-m", "birdland:resnet", "-m", "birdland:vit")
    command = ("reproduce", "figure4", "figure5", "--waterbirds", birds, "-w", tmp_path / "work", *models)
    said = despur(*command, "--epochs", "1", "--json")
    assert said.exit_code == 0, said.output
    figures = json.loads(said.stdout)["figures"]
    assert set(figures) == {"figure4", "figure5"}
    drawn = [Image.open(file) for file in figures.values()]
    assert all(min(picture.size) > 200 for picture in drawn)
    assert drawn[0].tobytes() != drawn[1].tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["released", "tuned"])
def test_the_other_recipes_go_the_whole_way(birds: Path, tmp_path: Path, recipe: str):
    command = ("reproduce", "table4", "--waterbirds", birds, "-w", tmp_path / "work", "-m", "birdland:resnet")
    said = despur(*command, "--settings", recipe, "--epochs", "2", "--json")
    assert said.exit_code == 0, said.output
    numbers = json.loads(said.stdout)["numbers"]
    assert len(numbers) == 24
    assert all(number["ours"] is None or 0 <= number["ours"] <= 1 for number in numbers)
    assert sum(number["ours"] is not None for number in numbers) >= 12


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_papers_two_models_at_full_size_with_random_weights(tmp_path: Path):
    """RN50 and ViT-L/14@336px as the paper has them, but for what they learnt, on a small download with masks."""
    write_birds(tmp_path / "birds", scale=0.004, workers=1)
    command = ("reproduce", "all", "--waterbirds", tmp_path / "birds", "-w", tmp_path / "work", "--random-weights")
    said = despur(*command, "--epochs", "1", "--json")
    assert said.exit_code == 0, said.output
    outcome = json.loads(said.stdout)
    assert set(outcome["figures"]) == {"figure4", "figure5"}
    models = {number["model"] for number in outcome["numbers"] if number["model"]}
    assert models == {"open_clip:RN50/openai", "open_clip:ViT-L-14-336/openai"}
    published = [number for number in outcome["numbers"] if number["published"] is not None]
    assert {number["table"] for number in published} >= {"table1", "table2", "table4"}
    assert all(number["difference"] is not None for number in published if number["ours"] is not None)
